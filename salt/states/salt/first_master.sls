# A master that serves this tree. Needs no pillar: the first master of a cluster is made by
#   salt-call --local --file-root=/srv/mnha/salt state.apply states.salt.first_master
include:
  - states.host.stamp
  - states.salt.packages
  - states.salt.restart

salt_master_config:
  file.managed:
    - name: /etc/salt/master.d/mnha.conf
    - source: salt://states/salt/files/master.conf
    - mode: '0644'
    - makedirs: True

salt_master_reactor:
  file.managed:
    - name: /etc/salt/master.d/mnha-reactor.conf
    - source: salt://reactor/reactor.yaml
    - mode: '0644'
    - makedirs: True

salt_master_stamp:
  file.managed:
    - name: /etc/systemd/system/salt-master.service.d/mnha.conf
    - source: salt://states/salt/files/stamp.conf
    - makedirs: True

salt_master_running:
  service.running:
    - name: salt-master
    - enable: True
    - require:
      - cmd: salt_python_packages
      - file: host_stamp
      - file: salt_master_config
      - file: salt_master_reactor
      - file: salt_master_stamp

# One that runs already and was started with something else.
salt_master_restart:
  cmd.run:
    - name: /usr/lib/mnha/restart-when-idle salt-master
    - unless: /usr/lib/mnha/stamp salt-master --check
    - require:
      - file: salt_restart_script
      - service: salt_master_running
    - order: last
