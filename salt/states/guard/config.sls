{%- set conf = salt['mnha_config.get']() %}

include:
  - states.fencer.config

guard_config:
  file.managed:
    - name: /etc/mnha/guard.json
    - source: salt://states/guard/files/guard.json
    - template: jinja
    - mode: '0600'

# The old suite's command, its completion and its page.
{%- for name, path, mode in (('zsha', '/usr/bin/zsha', '0755'),
                             ('zsha.bash', '/usr/share/bash-completion/completions/zsha', '0644'),
                             ('zsha.zsh', '/usr/share/zsh/vendor-completions/_zsha', '0644'),
                             ('zsha.8', '/usr/share/man/man8/zsha.8', '0644')) %}

guard_{{ name }}:
  file.managed:
    - name: {{ path }}
    - source: salt://states/guard/files/{{ name }}
{%- if name in ('zsha.bash', 'zsha.zsh') %}
    - template: jinja
    - defaults:
        nodes: {{ conf.cluster.nodes | join(' ') }}
{%- endif %}
    - mode: '{{ mode }}'
    - makedirs: True
{%- endfor %}
