two:
  runner.state.orchestrate:
    - args:
        - mods: orch.two
        - pillar:
            marks: {{ data.marks }}
            run: {{ data.run }}
            first: {{ data.id }}
            second: node2
