# The shared folder with the VMs' images must be mounted and writable.
{%- set conf = salt['mnha_config.get']() %}
{%- set folder = conf.cluster.image_folder %}
{%- set present = salt['file.directory_exists'](folder) %}
{%- set writable = present and salt['file.access'](folder, 'w') %}

storage_image_folder:
  test.{{ 'succeed' if writable else 'fail' }}_without_changes:
{%- if writable %}
    - name: {{ (folder ~ ' is there and writable') | json }}
{%- elif present %}
    - name: {{ (folder ~ ' is read-only on ' ~ conf.node ~ '; mount it read-write and apply again') | json }}
{%- else %}
    - name: {{ (folder ~ ' is missing on ' ~ conf.node ~ '; mount the shared file system there and apply again') | json }}
{%- endif %}
{%- for name, vm in conf.cluster.vms.items() %}
{%-   set image = folder ~ '/' ~ vm.image %}
{%-   set there = salt['file.file_exists'](image) %}

storage_image_{{ name }}:
  test.{{ 'succeed' if there else 'fail' }}_without_changes:
    - name: {{ ('the image of ' ~ name ~ ', ' ~ image ~ ', ' ~ ('is there' if there else 'is missing: is the share mounted? If so, copy it there; apply again')) | json }}
{%- endfor %}
