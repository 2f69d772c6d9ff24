{#- The guest does not answer any more: its own guard resets it. It refuses if it does not hold the lease, or has reset it
    already: every master reacts. #}
{{ (data.vm ~ "-vm_hung") | json }}:
  local.guard.reset:
    - tgt: {{ data.id | json }}
    - tgt_type: list
    - args:
        vm: {{ data.vm | json }}
        vm_pid: {{ data.vm_pid | json }}
        reason: {{ ("hung: " ~ data.text) | json }}
