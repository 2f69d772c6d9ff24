# The host's own networks, if the pillar has them (mnha:cluster:networks), and the bridges that the VMs are connected to,
# which must be there in any case: a VM that cannot start here makes this node no candidate.
{%- set conf = salt['mnha_config.get']() %}
include:
  - states.claimed
{%- if conf.cluster.networks %}
  - states.network.tools

network_applied:
  hostnet.applied:
    - require:
      - pkg: network_packages
      - service: network_back_at_boot
{%- endif %}
{%- for vm in conf.cluster.vms.values() %}
{%-   for network in vm.networks %}

network_bridge_{{ network.mac }}:
  netbridge.there:
    - name: {{ network.bridge }}
{%-   endfor %}
{%- endfor %}
