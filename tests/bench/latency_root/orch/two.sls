first:
  salt.function:
    - name: lat.mark
    - tgt: {{ pillar.first }}
    - arg: [{{ pillar.marks }}, {{ pillar.run }}, exec_first]
second:
  salt.function:
    - name: lat.mark
    - tgt: {{ pillar.second }}
    - arg: [{{ pillar.marks }}, {{ pillar.run }}, exec_second]
    - require: [{salt: first}]
