{#- salt-run state.orchestrate orch.migrate pillar='{cluster: example, node: node2}' #}
migrate:
  salt.runner:
    - name: mnha.migrate
    - cluster: {{ pillar.cluster | json }}
    - node: {{ pillar.get('node', '') | json }}
    - vm: {{ pillar.get('vm') | json }}
