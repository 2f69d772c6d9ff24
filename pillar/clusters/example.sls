# An example cluster: three KVM hosts that share a file system, and the management-node VM `mnvm`.
# Every key that may stand here is documented in defaults.yaml's comments and checked by
# `salt-run mnha.check_config`; what is left out has the default given there.
mnha:
  cluster:
    name: example
    timings: default                 # default | fast | {renew_s, deadline_s, kill_s, lease_s}
    watchdog: automatic              # required | automatic | off
    image_folder: /opt/smp/mngt      # the shared folder every node sees
    nodes:                           # key = minion id = hostname = Consul node name
      node1: {management: 172.20.198.3, storage: 192.168.93.3}
      node2: {management: 172.20.198.4, storage: 192.168.93.4}
      node3: {management: 172.20.198.5, storage: 192.168.93.5}
    consul:
      source: {kind: repository, url: 'https://apt.releases.hashicorp.com', suite: bookworm}
    vms:
      mnvm:
        uuid: 6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c11
        cpus: 4
        memory_mib: 8192
        image: mnvm.img              # in image_folder
        image_format: qcow2
        networks:
          - bridge: br_mgmt
            mac: 52:54:00:5a:01:01
            address: 172.20.198.10
            netmask: 255.255.255.0
            gateway: 172.20.198.1
            management: true
            default_route: true
        health: {agent: true, tcp_port: 8080}
        prefer: []                   # nodes in the order in which they are chosen when all else is equal
