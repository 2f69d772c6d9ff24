include:
  - states.consul.acl

# Never all at once: a restarted server is out of the quorum for seconds, and a lost quorum makes the guard kill the VM.
# After the tokens: it is with one of them that the nodes agree on whose turn it is.
consul_current:
  consul_ha.current:
    - name: consul
    - require:
      - consul_ha: consul_role_policy
      - consul_ha: consul_votes
