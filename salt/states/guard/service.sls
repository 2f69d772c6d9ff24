include:
  - states.consul.acl
  - states.host.realtime
  - states.host.stamp
  - states.fencer.service
  - states.guard.packages
  - states.guard.config

guard_unit:
  file.managed:
    - name: /etc/systemd/system/mnha-guard.service
    - source: salt://states/guard/files/mnha-guard.service
    - template: jinja
    - mode: '0644'

guard_running:
  service.running:
    - name: mnha-guard
    - enable: True
    - require:
      - file: guard_config
      - file: host_realtime
      - file: host_stamp
      - file: guard_unit
      - file: fencer_library
      - guard: fencer_current
      - cmd: guard_python_packages

# Reloaded: a version that can't be run is refused before.
guard_current:
  guard.current:
    - name: mnha-guard
    - require:
      - service: guard_running

# From here on it is in force: Consul and guard have begun with it. Modules reach Consul by it, and answer masters by it,
# not by the pillar that a minion has in its memory.
guard_in_force:
  file.managed:
    - name: /etc/mnha/cluster.json
    - source: salt://states/guard/files/cluster.json
    - template: jinja
    - mode: '0600'
    - require:
      - guard: guard_current
{%- for vm in salt['mnha_config.get']().cluster.vms %}

guard_lease_{{ vm }}:
  guard.lease_created:
    - retry: {attempts: 20, interval: 2}
    - name: {{ vm }}
    - require:
      - guard: guard_current
      - consul_ha: consul_role_guard
      - consul_ha: consul_role_policy
{%- endfor %}

# Last: what is recorded is in force.
guard_configuration:
  mnha_config.recorded:
    - retry: {attempts: 20, interval: 2}
    - name: configuration
    - require:
      - file: guard_in_force
      - consul_ha: consul_role_policy
