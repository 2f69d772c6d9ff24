# The guard: keeps or loses the lease, starts and kills the VM. Independent of Salt once it is installed.
include:
  - states.claimed
  - states.guard.packages
  - states.guard.config
  - states.guard.watchdog
  - states.guard.service
