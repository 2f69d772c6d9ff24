# The script by which daemons begin with real-time priority. Needs no configuration.
host_realtime:
  file.managed:
    - name: /usr/lib/mnha/realtime
    - source: salt://states/host/files/realtime
    - mode: '0755'
    - makedirs: True
