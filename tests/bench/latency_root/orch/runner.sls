both:
  salt.runner:
    - name: lat.two_calls
    - marks: {{ pillar.marks }}
    - run: {{ pillar.run }}
    - first: {{ pillar.first }}
    - second: {{ pillar.second }}
