# The protected VMs are defined on every node and started on none: that is the guard's. Never autostart.
include:
  - states.hypervisor
{%- for vm in salt['mnha_config.get']().cluster.vms %}

mnvm_{{ vm }}:
  mnvm.defined:
    - name: {{ vm }}
    - require:
      - service: hypervisor_running
{%- endfor %}
