include:
  - states.hypervisor.packages

# Debian's default lets libvirtd exit when nobody asked for two minutes; the guard's connection and events would break.
hypervisor_daemon_arguments:
  file.managed:
    - name: /etc/default/libvirtd
    - contents: |
        # Managed by Salt (states.hypervisor): changes are lost at the next state.apply.
        LIBVIRTD_ARGS=""
    - mode: '0644'
    - require:
      - pkg: hypervisor_packages

# libvirt would note each image's former owner on the shared file system, where a dead host's notes stay for ever.
hypervisor_qemu:
  file.keyvalue:
    - name: /etc/libvirt/qemu.conf
    - key_values:
        remember_owner: '0'
        max_core: '0'
    - separator: ' = '
    - uncomment: '#'
    - append_if_not_found: True
    - show_changes: False
    - require:
      - pkg: hypervisor_packages
