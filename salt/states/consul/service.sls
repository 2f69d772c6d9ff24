include:
  - states.host.realtime
  - states.host.stamp
  - states.consul.packages
  - states.consul.config

# A server that begins without data takes the place of its former self among the voters: not before the others vote.
consul_may_join:
  consul_ha.may_join:
    - name: consul
    - require:
      - file: consul_server_config
      - file: consul_secret_config

consul_running:
  service.running:
    - name: consul
    - enable: True
    - require:
      - file: consul_unit
      - file: host_stamp
      - file: host_realtime
      - consul_ha: consul_may_join
      - file: consul_data_folder
      - file: consul_server_config
      - file: consul_secret_config

consul_quorum:
  consul_ha.quorum_reached:
    - name: consul
    - require:
      - service: consul_running
