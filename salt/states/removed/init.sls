# The way back: all that `state.apply` has put on a node for the cluster's VMs goes, in the order in which nothing is left
# that runs without what it needs. Not in top.sls: `salt-run mnha.uninstall` applies it, or an operator to one node:
#   salt NODE state.apply states.removed test=True
# What stays, and why, stands in docs/runbook.md. Needs no pillar.
include:
  - states.removed.daemons
  - states.removed.consul
  - states.removed.files
  - states.removed.hypervisor
  - states.removed.salt
