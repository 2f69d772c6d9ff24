# The time, where the pillar says from whom (mnha:cluster:chrony_servers). Leases don't need it: certificates, logs and the
# guest do.
{%- set conf = salt['mnha_config.get']() %}
{%- if conf.cluster.chrony_servers %}

time_package:
  pkg.installed:
    - name: chrony

time_config:
  file.managed:
    - name: /etc/chrony/chrony.conf
    - contents_newline: False
    - contents: {{ salt['mnha_config.chrony']() | json }}
    - backup: minion
    - require:
      - pkg: time_package

time_running:
  service.running:
    - name: chrony
    - enable: True
    - watch:
      - file: time_config
{%- endif %}
