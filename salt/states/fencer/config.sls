{%- do salt['mnha_config.get']() %}

# The library that Salt's modules use too, in a copy of its own: fencer and guard run without Salt.
fencer_library:
  file.recurse:
    - name: /usr/lib/mnha/mnha
    - source: salt://_utils/mnha
    - clean: True
    - exclude_pat: E@__pycache__
    - file_mode: '0644'
    - dir_mode: '0755'

fencer_config:
  file.managed:
    - name: /etc/mnha/fencer.json
    - source: salt://states/fencer/files/fencer.json
    - template: jinja
    - mode: '0600'
    - makedirs: True
