host_packages:
  pkg.installed:
    - pkgs:
      - ca-certificates
      - iproute2
      - iputils-ping
      - procps
