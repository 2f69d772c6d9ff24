include:
  - states.hypervisor.packages

{%- set conf = salt['mnha_config.get']() %}
{%- do salt['mnha_config.secrets']() %}

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
        # A migration whose way is cut fails after six seconds, not after half a minute.
        keepalive_interval: '2'
        keepalive_count: '2'
    - separator: ' = '
    - uncomment: '#'
    - append_if_not_found: True
    - show_changes: False
    - require:
      - pkg: hypervisor_packages

# Live migration: the nodes' libvirts speak to each other in the storage network only, with certificates of their own.
hypervisor_pki_folder:
  file.directory:
    - name: /etc/mnha/libvirt
    - mode: '0700'
    - makedirs: True
{%- for name, key in (('cacert', 'ca'), ('clientcert', 'libvirt_certificate'), ('clientkey', 'libvirt_key')) %}

hypervisor_{{ name }}:
  file.managed:
    - name: /etc/mnha/libvirt/{{ name }}.pem
    - contents_pillar: mnha_secrets:{{ key }}
    - mode: '0600'
    - show_changes: False
    - require:
      - file: hypervisor_pki_folder
{%- endfor %}

hypervisor_daemon:
  file.keyvalue:
    - name: /etc/libvirt/libvirtd.conf
    - key_values: {{ salt['mnha_config.libvirtd']() | json }}
    - separator: ' = '
    - uncomment: '#'
    - append_if_not_found: True
    - require:
      - pkg: hypervisor_packages

hypervisor_tls_socket:
  file.managed:
    - name: /etc/systemd/system/libvirtd-tls.socket.d/mnha.conf
    - contents: |
        # Managed by Salt (states.hypervisor): changes are lost at the next state.apply.
        [Unit]
        PartOf=libvirtd.service
        [Socket]
        ListenStream=
        ListenStream={{ conf.own.storage }}:{{ conf.cluster.migration.port }}
        FreeBind=yes
    - makedirs: True
    - mode: '0644'

# libvirtd takes the sockets that are there when it starts; so its start is what starts this one. And it is tried for as
# long as it can't start: systemd would give it up after five times within a second, for good.
hypervisor_tls_wanted:
  file.managed:
    - name: /etc/systemd/system/libvirtd.service.d/mnha.conf
    - contents: |
        # Managed by Salt (states.hypervisor): changes are lost at the next state.apply.
        # Listens at {{ conf.own.storage }}:{{ conf.cluster.migration.port }}.
        [Unit]
        Wants=libvirtd-tls.socket
        StartLimitIntervalSec=0
        [Service]
        RestartSec=1
    - makedirs: True
    - mode: '0644'
