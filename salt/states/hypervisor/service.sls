include:
  - states.hypervisor.config

# A restart of libvirtd leaves running VMs alone.
hypervisor_running:
  service.running:
    - name: libvirtd
    - enable: True
    - watch:
      - file: hypervisor_daemon_arguments
      - file: hypervisor_qemu
