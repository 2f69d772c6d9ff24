# How Salt restarts itself: when the run that changed something is over, and only if something changed since the start.
salt_restart_script:
  file.managed:
    - name: /usr/lib/mnha/restart-when-idle
    - source: salt://states/salt/files/restart-when-idle
    - mode: '0755'
    - makedirs: True
