{#- A lease is free and the VM is wanted. #}
{{ (data.vm ~ "-lease_released") | json }}:
  runner.mnha_policy.failover:
    - args:
        cluster: {{ data.cluster | json }}
        vm: {{ data.vm | json }}
        epoch: {{ data.epoch | json }}
        seq: {{ data.seq | json }}
        index: {{ data.index | json }}
        attempt: {{ data.attempt | json }}
        reporter: {{ data.id | json }}
        event: lease_released
