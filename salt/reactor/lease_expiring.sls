{#- A lease is about to expire: let a node prepare the take-over. Its guard waits until the lease has expired. #}
{{ (data.vm ~ "-lease_expiring") | json }}:
  runner.mnha_policy.failover:
    - args:
        cluster: {{ data.cluster | json }}
        vm: {{ data.vm | json }}
        epoch: {{ data.epoch | json }}
        seq: {{ data.seq | json }}
        index: {{ data.index | json }}
        attempt: {{ data.attempt | json }}
        reporter: {{ data.id | json }}
        event: lease_expiring
