# libvirt and QEMU stay, with whatever else runs on them: but libvirtd listens to other nodes no more, and has its own
# certificate's place again. Its restart leaves running VMs alone.
{%- set settings = ('ca_file', 'cert_file', 'key_file', 'auth_tls', 'tls_allowed_dn_list', 'host_uuid') %}
{%- if salt['service.available']('libvirtd-tls.socket') %}
removed_tls_socket:
  service.dead:
    - name: libvirtd-tls.socket
{%- endif %}
{%- for path in (
      '/etc/systemd/system/libvirtd-tls.socket.d/mnha.conf',
      '/etc/systemd/system/libvirtd.service.d/mnha.conf',
      '/etc/mnha/libvirt') %}

removed_{{ path }}:
  file.absent:
    - name: {{ path }}
{%- endfor %}

# The link by which it is masked, of whatever kind it is.
removed_libvirt_guests_mask:
  file.absent:
    - name: /etc/systemd/system/libvirt-guests.service

removed_libvirtd_settings:
  file.replace:
    - name: /etc/libvirt/libvirtd.conf
    - pattern: '^({{ settings | join('|') }}) = (.*)$'
    - repl: '#\1 = \2'
    - ignore_if_missing: True
    - backup: False

removed_libvirtd_restarted:
  cmd.run:
    - name: systemctl daemon-reload && systemctl try-restart libvirtd
    - onchanges:
      - file: removed_/etc/systemd/system/libvirtd-tls.socket.d/mnha.conf
      - file: removed_/etc/systemd/system/libvirtd.service.d/mnha.conf
      - file: removed_libvirt_guests_mask
      - file: removed_libvirtd_settings
