# Salt can't load this project's modules: what they need is missing in its Python, as after an upgrade that brought it
# another one. It is installed, and Salt restarted when this run is over: beacons, reactor and runners need it too.
include:
  - states.salt.packages
{%- for service in ('salt-master', 'salt-minion') %}

{{ service | replace('-', '_') }}_without_modules:
  cmd.run:
    - name: /usr/lib/mnha/restart-when-idle {{ service }}
    - onlyif: test -x /usr/lib/mnha/restart-when-idle && systemctl --quiet is-active {{ service }}
    - order: last
    - require:
      - cmd: salt_python_packages
{%- endfor %}

salt_modules:
  test.fail_without_changes:
    - name: >-
        {{ opts.id }}: Salt's Python ({{ salt['grains.get']('pythonexecutable') }}) had not what this project's modules need.
        It was installed: apply once more. If this comes again, `salt-call -l debug mnha_config.get` tells what is missing
    - require:
      - cmd: salt_python_packages
