{#- The guest does not answer any more: its own guard resets it. It refuses if it does not hold the lease. #}
{{ (data.vm ~ "-vm_hung") | json }}:
  local.guard.reset:
    - tgt: {{ data.id | json }}
    - tgt_type: list
    - args:
        vm: {{ data.vm | json }}
        reason: {{ ("hung: " ~ data.text) | json }}
