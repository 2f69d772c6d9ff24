# The script by which services note what they were started with. Needs no configuration.
host_stamp:
  file.managed:
    - name: /usr/lib/mnha/stamp
    - source: salt://states/host/files/stamp
    - mode: '0755'
    - makedirs: True
