# The host itself: packages everything else takes for granted, names of all nodes, and what upgrades leave alone.
include:
  - states.claimed
  - states.host.packages
  - states.host.config
  - states.host.upgrades
  - states.host.stamp
