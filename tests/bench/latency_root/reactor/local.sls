mark:
  local.lat.mark:
    - tgt: node2
    - args:
        - path: {{ data.marks }}
        - run: {{ data.run }}
        - hop: exec_first
