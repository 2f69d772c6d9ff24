{#- salt-run state.orchestrate orch.maintenance pillar='{cluster: example, node: node2, state: "on"}' #}
maintenance:
  salt.runner:
    - name: mnha.maintenance
    - kwarg: {{ {'cluster': pillar.cluster, 'node': pillar.node, 'state': pillar.state,
                 'reason': pillar.get('reason', ''), 'force': pillar.get('force', False)} | json }}
