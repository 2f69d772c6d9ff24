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
      - file: hypervisor_daemon
      - file: hypervisor_cacert
      - file: hypervisor_clientcert
      - file: hypervisor_clientkey
      - file: hypervisor_tls_socket
      - file: hypervisor_tls_wanted
