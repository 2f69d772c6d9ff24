include:
  - states.consul.service

# Retried, because other nodes may restart their servers meanwhile.
consul_autopilot:
  consul_ha.autopilot:
    - retry: {attempts: 20, interval: 2}
    - name: autopilot
    - require:
      - consul_ha: consul_quorum
{%- for role in ('agent', 'guard', 'policy') %}

consul_role_{{ role }}:
  consul_ha.role_present:
    - retry: {attempts: 20, interval: 2}
    - name: {{ role }}
    - require:
      - consul_ha: consul_quorum
{%- endfor %}
