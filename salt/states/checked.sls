# Fails with every fault of the pillar while it is rendered, so that nothing is applied.
{%- do salt['mnha_config.get']() %}
{%- do salt['mnha_config.secrets']() %}

pillar_checked:
  test.nop: []
