{%- set driver = salt['mnha_config.get']().cluster.watchdog_driver %}

# With nowayout=1, the default of some kernels, it could not be stopped when the VM has ended: the node would be reset.
guard_watchdog_options:
{%- if driver %}
  file.managed:
    - name: /etc/modprobe.d/mnha-watchdog.conf
    - contents: |
        # Managed by Salt (states.guard): changes are lost at the next state.apply.
        options {{ driver }} nowayout=0
    - mode: '0644'

guard_watchdog_driver:
  kmod.present:
    - name: {{ driver }}
    - persist: True
    - require:
      - file: guard_watchdog_options
{%- else %}
  file.absent:
    - name: /etc/modprobe.d/mnha-watchdog.conf
{%- endif %}
