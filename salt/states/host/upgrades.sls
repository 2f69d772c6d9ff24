# What upgrades the host by itself does not restart what a running VM hangs on.
host_needrestart:
  file.managed:
    - name: /etc/needrestart/conf.d/mnha.conf
    - source: salt://states/host/files/needrestart.conf
    - mode: '0644'
    - makedirs: True

host_unattended_upgrades:
  file.managed:
    - name: /etc/apt/apt.conf.d/52mnha
    - source: salt://states/host/files/apt.conf
    - mode: '0644'
