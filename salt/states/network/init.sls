# The host's own networks, if the pillar has them (mnha:cluster:networks), and the bridges that the VMs are connected to,
# which must be there in any case: a VM that cannot start here makes this node no candidate.
{%- set conf = salt['mnha_config.get']() %}
{%- if conf.cluster.networks %}

network_packages:
  pkg.installed:
    - pkgs:
      - bridge-utils
      - ifupdown2
      - iputils-ping

network_back:
  file.managed:
    - name: /usr/lib/mnha/network-back
    - source: salt://states/network/files/network-back
    - mode: '0755'
    - makedirs: True

network_back_at_boot:
  file.managed:
    - name: /etc/systemd/system/mnha-network-back-at-boot.service
    - source: salt://states/network/files/mnha-network-back-at-boot.service
  service.enabled:
    - name: mnha-network-back-at-boot
    - require:
      - file: network_back_at_boot
      - file: network_back

network_applied:
  hostnet.applied:
    - require:
      - pkg: network_packages
      - service: network_back_at_boot
{%- endif %}
{%- for vm in conf.cluster.vms.values() %}
{%-   for network in vm.networks %}
{%-     set bridge = network.bridge %}
{%-     if bridge not in salt['hostnet.names']() %}
{%-       set present = salt['file.directory_exists']('/sys/class/net/' ~ bridge ~ '/bridge') %}
{%-       set remedy = 'is missing on ' ~ conf.node ~ ': create it, with the address of the host on it, and apply again' %}

network_bridge_{{ network.mac }}:
  test.{{ 'succeed' if present else 'fail' }}_without_changes:
    - name: {{ ('bridge ' ~ bridge ~ ' ' ~ ('is there' if present else remedy)) | json }}
{%-     endif %}
{%-   endfor %}
{%- endfor %}
