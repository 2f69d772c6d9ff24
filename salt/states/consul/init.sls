# A Consul server on every node: the quorum that keeps the leases.
include:
  - states.claimed
  - states.consul.packages
  - states.consul.config
  - states.consul.service
  - states.consul.acl
  - states.consul.current
