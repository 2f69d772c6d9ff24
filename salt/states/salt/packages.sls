# What the modules need in Salt's own Python. Needs no configuration, so that it can be applied before everything else:
#   salt '*' state.apply states.salt.packages
{%- set pip = salt['pillar.get']('mnha:cluster:packages:pip', {}) %}
{%- set options = ['--no-index'] if pip.get('no_index') else [] %}
{%- if pip.get('find_links') %}{% do options.extend(['--find-links', pip.find_links]) %}{% endif %}
{%- set python = salt['grains.get']('pythonexecutable') %}

salt_python_packages:
  file.managed:
    - name: /usr/lib/mnha/salt-requirements.txt
    - source: salt://states/salt/files/requirements.txt
    - makedirs: True
  cmd.run:
    - name: >-
        {{ python }} -m pip install --quiet --disable-pip-version-check {{ options | join(' ') }}
        -r /usr/lib/mnha/salt-requirements.txt
    - unless: {{ python }} -c 'import consul, cryptography, pydantic, requests; assert pydantic.VERSION >= "2"'
    - require:
      - file: salt_python_packages
