# Every minion whose pillar makes it a node of a cluster gets all layers, in this order.
{#- With a wrong pillar every layer would repeat the same complaint; then only the one that tells it. #}
{%- set is_wrong = 'mnha_config.problems' in salt and salt['mnha_config.problems']() %}
base:
  'mnha:cluster:name:*':
    - match: pillar
{%- if is_wrong %}
    - states.checked
{%- else %}
    - states.host
    - states.network
    - states.storage
    - states.consul
    - states.hypervisor
    - states.mnvm
    - states.fencer
    - states.guard
    - states.salt
{%- endif %}
