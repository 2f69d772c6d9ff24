# The protected VMs are defined on every node and started on none: that is the guard's. Never autostart.
include:
  - states.claimed
  - states.storage
  - states.hypervisor
{%- set cluster = salt['mnha_config.get']().cluster %}
{%- for name, vm in cluster.vms.items() %}
{%-   if vm.rbd %}

mnvm_secret_{{ name }}:
  mnha_ceph.known_to_libvirt:
    - name: {{ name }}
    - require:
      - service: hypervisor_running
      - mnha_ceph: storage_ceph_{{ name }}
{%-   else %}

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
{%-   endif %}

mnvm_{{ name }}:
  mnvm.defined:
    - name: {{ name }}
    - require:
{%-   if vm.rbd %}
      - mnha_ceph: mnvm_secret_{{ name }}
{%-   else %}
      - mnha_storage: mnvm_image_{{ name }}
{%-   endif %}
{%- endfor %}
