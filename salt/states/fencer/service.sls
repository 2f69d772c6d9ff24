include:
  - states.host.realtime
  - states.host.stamp
  - states.fencer.config

fencer_unit:
  file.managed:
    - name: /etc/systemd/system/mnha-fencer.service
    - source: salt://states/fencer/files/mnha-fencer.service
    - template: jinja
    - mode: '0644'

fencer_running:
  service.running:
    - name: mnha-fencer
    - enable: True
    - require:
      - file: fencer_config
      - file: fencer_library
      - file: fencer_unit
      - file: host_realtime
      - file: host_stamp

# A VM outlives its restart: what was granted is written down.
fencer_current:
  guard.fencer_current:
    - name: mnha-fencer
    - require:
      - service: fencer_running
