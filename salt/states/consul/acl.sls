include:
  - states.consul.service
{%- for role in ('policy', 'guard', 'agent') %}

# Only a master may make them; the node asks for it, and waits.
consul_role_{{ role }}:
  consul_ha.role_present:
    - name: {{ role }}
    - require:
      - consul_ha: consul_quorum
{%- endfor %}

consul_autopilot:
  consul_ha.autopilot:
    - name: autopilot
    - require:
      - consul_ha: consul_role_policy
