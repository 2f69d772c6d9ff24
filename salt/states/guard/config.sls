{%- do salt['mnha_config.get']() %}

include:
  - states.fencer.config

guard_config:
  file.managed:
    - name: /etc/mnha/guard.json
    - source: salt://states/guard/files/guard.json
    - template: jinja
    - mode: '0600'
