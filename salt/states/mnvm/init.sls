# The protected VMs are defined on every node and started on none: that is the guard's. Never autostart.
include:
  - states.claimed
  - states.storage
  - states.hypervisor
{%- set cluster = salt['mnha_config.get']().cluster %}
{%- for name, vm in cluster.vms.items() %}

# QEMU's user owns the image for good: libvirt is told to leave it alone. A file server that does not let root change
# that (root_squash) must have it right already.
mnvm_image_{{ name }}:
  mnha_storage.owned:
    - name: {{ (cluster.image_folder ~ '/' ~ vm.image) | json }}
    - user: libvirt-qemu
    - group: libvirt-qemu
    - mode: '0660'
    - require:
      - service: hypervisor_running
      - mnha_storage: storage_image_{{ name }}

mnvm_{{ name }}:
  mnvm.defined:
    - name: {{ name }}
    - require:
      - mnha_storage: mnvm_image_{{ name }}
{%- endfor %}
