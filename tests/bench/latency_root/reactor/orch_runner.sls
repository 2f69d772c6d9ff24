two:
  runner.state.orchestrate:
    - args:
        - mods: orch.runner
        - pillar:
            marks: {{ data.marks }}
            run: {{ data.run }}
            first: {{ data.id }}
            second: node2
