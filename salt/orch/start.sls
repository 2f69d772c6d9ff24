{#- salt-run state.orchestrate orch.start pillar='{cluster: example, vm: mnvm}' #}
start:
  salt.runner:
    - name: mnha.start
    - cluster: {{ pillar.cluster | json }}
    - vm: {{ pillar.get('vm') | json }}
