# Salt stays as it is: minions that know their masters, masters with this tree, the pillar and the secrets. Only the
# beacons go, for there is no guard that they could ask.
removed_beacons:
  file.replace:
    - name: /etc/salt/minion.d/mnha.conf
    - pattern: '^(beacons_before_connect: .*|beacons:\n([ ]+.*\n?)*)'
    - repl: ''
    - flags: ['MULTILINE']
    - ignore_if_missing: True
    - backup: False

removed_minion_restarted:
  cmd.run:
    - name: /usr/lib/mnha/restart-when-idle salt-minion
    - onlyif: test -x /usr/lib/mnha/restart-when-idle
    - onchanges:
      - file: removed_beacons
    - order: last
