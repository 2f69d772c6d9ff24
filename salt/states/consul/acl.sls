include:
  - states.consul.service

consul_autopilot:
  consul_ha.autopilot:
    - name: autopilot
    - require:
      - consul_ha: consul_quorum
{%- for role in ('agent', 'guard', 'policy') %}

consul_role_{{ role }}:
  consul_ha.role_present:
    - name: {{ role }}
    - require:
      - consul_ha: consul_quorum
{%- endfor %}
