{%- do salt['mnha_config.get']() %}

# The library that Salt's modules use too, in a copy of its own: the guard runs without Salt.
guard_library:
  file.recurse:
    - name: /usr/lib/mnha/mnha
    - source: salt://_utils/mnha
    - clean: True
    - exclude_pat: E@__pycache__
    - file_mode: '0644'
    - dir_mode: '0755'

guard_config:
  file.managed:
    - name: /etc/mnha/guard.json
    - source: salt://states/guard/files/guard.json
    - template: jinja
    - mode: '0600'
