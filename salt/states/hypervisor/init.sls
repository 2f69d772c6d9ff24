# libvirt and QEMU.
include:
  - states.hypervisor.packages
  - states.hypervisor.config
  - states.hypervisor.service
