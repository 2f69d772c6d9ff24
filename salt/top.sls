# Every minion whose pillar makes it a node of a cluster gets all layers, in this order.
base:
  'mnha:cluster:name:*':
    - match: pillar
    - states.host
    - states.network
    - states.storage
    - states.consul
    - states.hypervisor
    - states.mnvm
    - states.guard
    - states.salt
