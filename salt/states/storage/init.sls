# The shared folder with the VMs' images must be mounted and writable. It may hang: so nothing is asked of it while this
# is rendered, nor by a state of Salt's own, but by mnha_storage.
{%- set conf = salt['mnha_config.get']() %}
{%- set folder = conf.cluster.image_folder %}

storage_image_folder:
  mnha_storage.usable:
    - name: {{ folder | json }}
{%- for name, vm in conf.cluster.vms.items() %}

storage_image_{{ name }}:
  mnha_storage.present:
    - name: {{ (folder ~ '/' ~ vm.image) | json }}
    - require:
      - mnha_storage: storage_image_folder
{%- endfor %}
