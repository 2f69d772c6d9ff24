# The host itself: packages everything else takes for granted, names of all nodes, and what upgrades leave alone.
include:
  - states.claimed
  - states.host.packages
  - states.host.config
  - states.host.time
  - states.host.upgrades
  - states.host.stamp
