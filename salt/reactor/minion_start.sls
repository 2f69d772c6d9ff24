{#- A minion has come up: let this reactor load what a failover needs, long before one. #}
{{ ("prepare-" ~ data.id) | json }}:
  runner.mnha_policy.prepare: []
