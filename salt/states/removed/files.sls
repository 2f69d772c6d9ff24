# All that the states have written for this project alone, and what its daemons leave below /run. /usr/lib/mnha/stamp,
# restart-when-idle and salt-requirements.txt are Salt's own, network-back is the networks'.
{%- for path in (
      '/usr/bin/zsha',
      '/usr/share/bash-completion/completions/zsha',
      '/usr/share/zsh/vendor-completions/_zsha',
      '/usr/share/man/man8/zsha.8',
      '/etc/systemd/system/mnha-guard.service',
      '/etc/systemd/system/mnha-fencer.service',
      '/etc/systemd/system/consul.service',
      '/etc/needrestart/conf.d/mnha.conf',
      '/etc/apt/apt.conf.d/52mnha',
      '/etc/modprobe.d/mnha-watchdog.conf',
      '/etc/mnha/guard.json',
      '/etc/mnha/fencer.json',
      '/etc/mnha/cluster.json',
      '/etc/mnha/domains',
      '/etc/mnha/consul',
      '/etc/mnha/ceph',
      '/etc/mnha/tls',
      '/etc/mnha/tokens',
      '/usr/lib/mnha/mnha',
      '/usr/lib/mnha/build.json',
      '/usr/lib/mnha/requirements.txt',
      '/usr/lib/mnha/realtime',
      '/opt/mnha',
      '/usr/bin/consul',
      '/var/cache/mnha',
      '/var/lib/mnha/seeds',
      '/run/mnha',
      '/run/mnha-fencer',
      '/run/mnha-kvm',
      '/run/mnha-consul-roles.lock',
      '/run/mnha-stamp-consul',
      '/run/mnha-stamp-mnha-guard',
      '/run/mnha-stamp-mnha-fencer') %}

removed_{{ path }}:
  file.absent:
    - name: {{ path }}
{%- endfor %}

removed_units_read:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
      - file: removed_/etc/systemd/system/mnha-guard.service
      - file: removed_/etc/systemd/system/mnha-fencer.service
      - file: removed_/etc/systemd/system/consul.service
