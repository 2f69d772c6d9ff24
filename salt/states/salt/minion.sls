{%- set conf = salt['mnha_config.get']() %}
include:
  - states.salt.restart

salt_minion_config:
  file.managed:
    - name: /etc/salt/minion.d/mnha.conf
    - source: salt://states/salt/files/minion.conf
    - template: jinja
    - mode: '0644'
    - makedirs: True

salt_minion_enabled:
  service.enabled:
    - name: salt-minion

salt_minion_restart:
  cmd.run:
    - name: /usr/lib/mnha/restart-when-idle salt-minion
    - bg: False
    - onchanges:
      - file: salt_minion_config
    - require:
      - file: salt_restart_script
    - order: last
