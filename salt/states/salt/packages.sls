# What the modules need in Salt's own Python. Needs no configuration, so that it can be applied before everything else:
#   salt '*' state.apply states.salt.packages
# An upgrade of Salt may bring another Python, without them: then the modules are not loaded any more.
{%- from 'states/salt/python.jinja' import python, imports with context %}
{%- set pip = salt['pillar.get']('mnha:cluster:packages:pip', {}) %}
{%- set options = ['--no-index'] if pip.get('no_index') else [] %}
{%- if pip.get('find_links') %}{% do options.extend(['--find-links', pip.find_links]) %}{% endif %}
include:
  - states.salt.restart

salt_python_packages:
  file.managed:
    - name: /usr/lib/mnha/salt-requirements.txt
    - source: salt://states/salt/files/requirements.txt
    - makedirs: True
  cmd.run:
    - name: >-
        {{ python }} -m pip install --quiet --disable-pip-version-check {{ options | join(' ') }}
        -r /usr/lib/mnha/salt-requirements.txt && {{ imports }}
    - unless: {{ imports }}
    - reload_modules: True
    - require:
      - file: salt_python_packages
{%- if salt['file.file_exists']('/etc/salt/minion.d/mnha.conf') %}

# The daemon that runs has found out that it can't load them; its beacons are among what it can't do.
salt_python_packages_taken:
  cmd.run:
    - name: /usr/lib/mnha/restart-when-idle salt-minion
    - onchanges:
      - cmd: salt_python_packages
    - require:
      - file: salt_restart_script
    - order: last
{%- endif %}
