# The bridges that the VMs are connected to must be there: a VM that cannot start here makes this node no candidate.
{%- set conf = salt['mnha_config.get']() %}
{%- for vm in conf.cluster.vms.values() %}
{%-   for network in vm.networks %}
{%-     set bridge = network.bridge %}
{%-     set present = salt['file.directory_exists']('/sys/class/net/' ~ bridge ~ '/bridge') %}
{%-     set remedy = 'is missing on ' ~ conf.node ~ ': create it, with the address of the host on it, and apply again' %}

network_bridge_{{ network.mac }}:
  test.{{ 'succeed' if present else 'fail' }}_without_changes:
    - name: {{ ('bridge ' ~ bridge ~ ' ' ~ ('is there' if present else remedy)) | json }}
{%-   endfor %}
{%- endfor %}
