include:
  - states.hypervisor.config

# Salt's own look for changed units does not find files beside them (drop-ins).
hypervisor_units_read:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
      - file: hypervisor_tls_socket
      - file: hypervisor_tls_wanted

# A restart of libvirtd leaves running VMs alone.
hypervisor_running:
  service.running:
    - name: libvirtd
    - enable: True
    - require:
      - cmd: hypervisor_units_read
    - watch:
      - file: hypervisor_daemon_arguments
      - file: hypervisor_qemu
      - file: hypervisor_daemon
      - file: hypervisor_cacert
      - file: hypervisor_clientcert
      - file: hypervisor_clientkey
      - file: hypervisor_tls_socket
      - file: hypervisor_tls_wanted
