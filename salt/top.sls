# Every minion whose pillar makes it a node of a cluster gets all layers, in this order.
{#- With a wrong pillar every layer would repeat the same complaint; then only the one that tells it. #}
{%- set is_wrong = 'mnha_config.problems' in salt and salt['mnha_config.problems']() %}
{#- After an upgrade Salt's Python may miss what the modules need: then some are not loaded, and no layer is whole.
    Modules that are not there yet, on a new node, are another matter: they come with this very run. #}
{%- set is_lame = 'mnha_service.lost' in salt and salt['mnha_service.lost']() %}
base:
  'mnha:cluster:name:*':
    - match: pillar
{%- if is_lame %}
    - states.salt.repaired
{%- elif is_wrong %}
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
