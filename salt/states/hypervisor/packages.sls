# Before the packages: libvirt-guests would shut down and start VMs on its own; only the guard may.
hypervisor_no_libvirt_guests:
  file.symlink:
    - name: /etc/systemd/system/libvirt-guests.service
    - target: /dev/null
    - force: True

hypervisor_packages:
  pkg.installed:
    - pkgs:
      - libvirt-clients
      - libvirt-daemon-system
      - python3-libvirt
      - qemu-system-x86
      - qemu-utils
{%- if salt['mnha_config.get']().cluster.vms.values() | selectattr('rbd') | list %}
      - qemu-block-extra  # QEMU's driver for disks in Ceph
{%- endif %}
      - systemd-container  # systemd-machined: by it libvirt puts QEMU into its slice
    - require:
      - file: hypervisor_no_libvirt_guests
