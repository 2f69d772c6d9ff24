{%- set conf = salt['mnha_config.get']() %}
{%- set hostname = salt['network.get_hostname']().split('.')[0] %}

{%- if hostname != conf.node %}
host_name:
  test.fail_without_changes:
    - name: >-
        this host is called {{ hostname }}, but its minion id and Consul node name is {{ conf.node }}: they must be the same
        (`hostnamectl set-hostname {{ conf.node }}`)
    - failhard: True
{%- endif %}

# Names stand for management addresses, so that they work without DNS, also while the MNVM is down.
{%- for name, node in conf.cluster.nodes.items() %}
host_entry_{{ name }}:
  host.present:
    - ip: {{ node.management }}
    - names:
      - {{ name }}

host_entry_{{ name }}_storage:
  host.present:
    - ip: {{ node.storage }}
    - names:
      - {{ name }}-storage
{%- endfor %}

host_folder:
  file.directory:
    - name: /etc/mnha
    - mode: '0755'

host_state_folder:
  file.directory:
    - name: /var/lib/mnha
    - mode: '0755'
