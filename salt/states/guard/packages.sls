{%- set pip = salt['mnha_config.get']().cluster.packages.pip %}
{%- set options = ['--no-index'] if pip.no_index else [] %}
{%- if pip.find_links %}{% do options.extend(['--find-links', pip.find_links]) %}{% endif %}

guard_packages:
  pkg.installed:
    - pkgs:
      - python3-libvirt
      - python3-venv

guard_requirements:
  file.managed:
    - name: /usr/lib/mnha/requirements.txt
    - source: salt://states/guard/files/requirements.txt
    - makedirs: True

# With the system's packages, for python3-libvirt belongs to the system's libvirt.
guard_environment:
  cmd.run:
    - name: python3 -m venv --system-site-packages /opt/mnha
    - creates: /opt/mnha/bin/python
    - require:
      - pkg: guard_packages

guard_python_packages:
  cmd.run:
    - name: >-
        /opt/mnha/bin/python -m pip install --quiet --disable-pip-version-check {{ options | join(' ') }}
        -r /usr/lib/mnha/requirements.txt
        && cp /usr/lib/mnha/requirements.txt /opt/mnha/requirements.installed
    - unless: cmp --silent /usr/lib/mnha/requirements.txt /opt/mnha/requirements.installed
    - require:
      - cmd: guard_environment
      - file: guard_requirements
