{%- do salt['mnha_config.get']() %}
include:
  - states.host.stamp
  - states.salt.restart

# Jobs with their arguments and answers, pillars, rendered states: Salt leaves some of it readable by everybody.
salt_cache_folder:
  file.directory:
    - name: /var/cache/salt
    - mode: '0700'

salt_minion_config:
  file.managed:
    - name: /etc/salt/minion.d/mnha.conf
    - source: salt://states/salt/files/minion.conf
    - template: jinja
    - mode: '0644'
    - makedirs: True

salt_minion_stamp:
  file.managed:
    - name: /etc/systemd/system/salt-minion.service.d/mnha.conf
    - source: salt://states/salt/files/stamp.conf
    - makedirs: True

salt_minion_enabled:
  service.enabled:
    - name: salt-minion

salt_minion_restart:
  cmd.run:
    - name: /usr/lib/mnha/restart-when-idle salt-minion
    - unless: /usr/lib/mnha/stamp salt-minion --check
    - require:
      - file: salt_minion_config
      - file: salt_minion_stamp
      - file: salt_restart_script
      - file: host_stamp
    - order: last
