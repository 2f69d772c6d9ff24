{%- set pip = salt['mnha_config.get']().cluster.packages.pip %}
{%- set options = ['--no-index'] if pip.no_index else [] %}
{%- if pip.find_links %}{% do options.extend(['--find-links', pip.find_links]) %}{% endif %}

guard_packages:
  pkg.installed:
    - pkgs:
      - python3-libvirt
      - python3-venv
      - python3-yaml

guard_requirements:
  file.managed:
    - name: /usr/lib/mnha/requirements.txt
    - source: salt://states/guard/files/requirements.txt
    - makedirs: True

# With the system's packages, for python3-libvirt belongs to the system's libvirt. It is the system's Python that runs in
# it: when an upgrade brings another one (3.11, 3.13), that has no folder here, and finds nothing of what is installed.
# What was there for the one before stays: a guard may still be running on it.
guard_environment:
  cmd.run:
    - name: |
        test -x /opt/mnha/bin/python || rm -rf /opt/mnha/bin
        python3 -m venv --upgrade --system-site-packages /opt/mnha
    - unless: test -d "$(/opt/mnha/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    - require:
      - pkg: guard_packages

guard_python_packages:
  cmd.run:
    - name: >-
        /opt/mnha/bin/python -m pip install --quiet --disable-pip-version-check {{ options | join(' ') }}
        -r /usr/lib/mnha/requirements.txt
        && cp /usr/lib/mnha/requirements.txt /opt/mnha/requirements.installed
    - unless: >-
        cmp --silent /usr/lib/mnha/requirements.txt /opt/mnha/requirements.installed
        && /opt/mnha/bin/python -I -c 'import consul, pydantic'
    - require:
      - cmd: guard_environment
      - file: guard_requirements
