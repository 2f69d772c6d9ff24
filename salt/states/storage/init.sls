# The shared file systems that the pillar has (mnha:cluster:mounts) are mounted; the folder with the VMs' images must be
# there and writable in any case, unless all VMs have their disks in Ceph, and boot from there. It may hang: so nothing is
# asked of it while this is rendered, nor by a state of Salt's own, but by mnha_storage.
{%- set conf = salt['mnha_config.get']() %}
{%- set folder = conf.cluster.image_folder %}
{%- set needs_folder, in_ceph = [], [] %}
{%- for name, vm in conf.cluster.vms.items() %}
{%-   if vm.image or vm.boot %}{% do needs_folder.append(name) %}{% endif %}
{%-   if vm.rbd %}{% do in_ceph.append(name) %}{% endif %}
{%- endfor %}
{%- set tools = {'nfs': 'nfs-common', 'nfs4': 'nfs-common', 'glusterfs': 'glusterfs-client', 'ceph': 'ceph-common',
                 'ocfs2': 'ocfs2-tools', 'gfs2': 'gfs2-utils', 'cifs': 'cifs-utils'} %}

include:
  - states.claimed
{%- for mount in salt['mnha_config.mounts']() %}

storage_mount_{{ mount.folder }}:
{%-   if mount.kind in tools %}
  pkg.installed:
    - name: {{ tools[mount.kind] }}
{%-   endif %}
  sharedfs.mounted:
    - name: {{ mount.folder | json }}
    - source: {{ mount.source | json }}
    - kind: {{ mount.kind | json }}
    - options: {{ mount.options | json }}
{%-   if mount.kind in tools %}
    - require:
      - pkg: storage_mount_{{ mount.folder }}
{%-   endif %}
{%-   if needs_folder %}
    - require_in:
      - mnha_storage: storage_image_folder
{%-   endif %}
{%- endfor %}
{%- if needs_folder %}

storage_image_folder:
  mnha_storage.usable:
    - name: {{ folder | json }}
{%- endif %}
{%- if in_ceph %}

# The guard asks Ceph by these. `ceph` and `rbd`, for people, are in ceph-common.
storage_ceph:
  pkg.installed:
    - pkgs:
      - python3-rados
      - python3-rbd
{%- endif %}
{%- for name, vm in conf.cluster.vms.items() %}
{%-   if vm.rbd %}

storage_ceph_{{ name }}:
  mnha_ceph.configured:
    - name: {{ name }}
    - require:
      - pkg: storage_ceph
{%-   else %}

storage_ceph_{{ name }}:
  mnha_ceph.forgotten:
    - name: {{ name }}

storage_image_{{ name }}:
  mnha_storage.present:
    - name: {{ (folder ~ '/' ~ vm.image) | json }}
    - require:
      - mnha_storage: storage_image_folder
{%-   endif %}
{%- endfor %}
