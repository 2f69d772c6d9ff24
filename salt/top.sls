# Every minion whose pillar makes it a node of a cluster gets all layers, in this order.
{#- With a wrong pillar every layer would repeat the same complaint; then only the one that tells it. And without this
project's own modules, as after an upgrade that brought Salt another Python, none could be rendered: then only the one that
brings what they need. A minion that has none of them yet gets them in the course of this run. #}
{%- set is_wrong = 'mnha_config.problems' in salt and salt['mnha_config.problems']() %}
base:
  'mnha:cluster:name:*':
    - match: pillar
{%- if 'mnha_config.get' not in salt and salt['file.file_exists'](opts.extension_modules ~ '/modules/mnha_config.py') %}
    - states.salt.unusable
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
