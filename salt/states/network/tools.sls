# What a change of the host's networks needs: the tools, and what brings the old network back by itself. For states of
# one's own with `hostnet.applied`, too.

network_packages:
  pkg.installed:
    - pkgs:
      - bridge-utils
      - ifupdown2
      - iputils-ping

network_back:
  file.managed:
    - name: /usr/lib/mnha/network-back
    - source: salt://states/network/files/network-back
    - mode: '0755'
    - makedirs: True

network_back_at_boot:
  file.managed:
    - name: /etc/systemd/system/mnha-network-back-at-boot.service
    - source: salt://states/network/files/mnha-network-back-at-boot.service
  service.enabled:
    - name: mnha-network-back-at-boot
    - require:
      - file: network_back_at_boot
      - file: network_back
