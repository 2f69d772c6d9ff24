two:
  runner.lat.two_calls:
    - args:
        - marks: {{ data.marks }}
        - run: {{ data.run }}
        - first: {{ data.id }}
        - second: node2
