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

# Until then it does not count for the quorum: the run on this node is not over before.
consul_votes:
  consul_ha.votes:
    - name: consul
    - require:
      - consul_ha: consul_role_policy
      - consul_ha: consul_autopilot

consul_autopilot:
  consul_ha.autopilot:
    - name: autopilot
    - require:
      - consul_ha: consul_role_policy
