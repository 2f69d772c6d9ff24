# Before anything is done by it: this run's pillar is the configuration in force, or becomes it, or the run ends here, for
# another master's came first.
{%- do salt['mnha_config.get']() %}

configuration_claimed:
  mnha_config.claimed:
    - name: configuration
    - order: first
    - failhard: True
