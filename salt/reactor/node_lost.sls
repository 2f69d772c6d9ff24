{#- Consul has lost a node; its lease may expire in seconds: let this reactor load what a failover needs. #}
{{ ("prepare-" ~ data.id ~ "-" ~ data.node) | json }}:
  runner.mnha_policy.prepare: []
