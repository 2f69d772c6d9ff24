{#- salt-run state.orchestrate orch.stop pillar='{cluster: example, vm: mnvm}' #}
stop:
  salt.runner:
    - name: mnha.stop
    - cluster: {{ pillar.cluster | json }}
    - vm: {{ pillar.get('vm') | json }}
