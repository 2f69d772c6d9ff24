# The host itself: packages everything else takes for granted, and names of all nodes.
include:
  - states.host.packages
  - states.host.config
  - states.host.stamp
