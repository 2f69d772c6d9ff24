# The bridges that the VMs are connected to must be there: a VM that cannot start here makes this node no candidate.
{%- set conf = salt['mnha_config.get']() %}
{%- for vm in conf.cluster.vms.values() %}
{%-   for network in vm.networks %}
{%-     set present = salt['file.directory_exists']('/sys/class/net/' ~ network.bridge ~ '/bridge') %}

network_bridge_{{ network.mac }}:
  test.{{ 'succeed' if present else 'fail' }}_without_changes:
    - name: bridge {{ network.bridge }} {{ 'is there' if present else 'is missing on ' ~ conf.node ~ ': create it, with the host\'s address on it, and apply again' }}
{%-   endfor %}
{%- endfor %}
