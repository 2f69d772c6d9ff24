# libvirt and QEMU.
include:
  - states.claimed
  - states.hypervisor.packages
  - states.hypervisor.config
  - states.hypervisor.service
