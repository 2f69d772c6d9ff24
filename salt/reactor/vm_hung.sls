{#- The guest hangs: its own guard resets it. It refuses if it does not hold the lease, has reset it already (every master
    reacts), if the guest does not hang any more, or is not to be reset for that (`on_hung`). #}
{{ (data.vm ~ "-vm_hung") | json }}:
  local.guard.reset:
    - tgt: {{ data.id | json }}
    - tgt_type: list
    - args:
        vm: {{ data.vm | json }}
        vm_pid: {{ data.vm_pid | json }}
        hung: true
        reason: {{ ("hung: " ~ data.text) | json }}
