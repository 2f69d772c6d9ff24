{%- do salt['mnha_config.get']() %}

# The library that Salt's modules use too, in a copy of its own: fencer and guard run without Salt. Salt has synchronised
# it just now: where the copy is the same the master is not asked for 230 files once more.
fencer_library:
{%- if salt['mnha_tree.is_synced']('/usr/lib/mnha/mnha', 'utils/mnha') %}
  file.directory:
    - name: /usr/lib/mnha/mnha
    - recurse: [mode]
{%- else %}
  file.recurse:
    - name: /usr/lib/mnha/mnha
    - source: salt://_utils/mnha
    - clean: True
    - exclude_pat: E@__pycache__
{%- endif %}
    - file_mode: '0644'
    - dir_mode: '0755'

# Compiled here, not by the services as they start: that takes time (0.05 s the fencer, 0.1 s the guard) and memory, which
# both keep (2 MB). It needs no success: what is not compiled now is compiled then.
fencer_library_compiled:
  cmd.run:
    - name: /usr/bin/python3 -m compileall -q /usr/lib/mnha/mnha || true
    - onchanges:
      - file: fencer_library

# Which commit that is: `zsha -v` tells it, as long as the library is that one.
fencer_library_build:
{%- if pillar.get('mnha_build') %}
  file.managed:
    - name: /usr/lib/mnha/build.json
    - contents: {{ pillar.mnha_build | json | yaml_squote }}
{%- else %}
  file.absent:
    - name: /usr/lib/mnha/build.json
{%- endif %}

fencer_config:
  file.managed:
    - name: /etc/mnha/fencer.json
    - source: salt://states/fencer/files/fencer.json
    - template: jinja
    - mode: '0600'
    - makedirs: True
