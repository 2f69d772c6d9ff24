# The fencer: kills a VM at the moment to which its lease lets it run, whatever becomes of the guard.
include:
  - states.claimed
  - states.fencer.config
  - states.fencer.service
