{%- set source = salt['mnha_config.get']().cluster.consul.source %}

# The unit comes before the package: Debian's starts an agent at once, and this one waits for its configuration.
consul_unit:
  file.managed:
    - name: /etc/systemd/system/consul.service
    - source: salt://states/consul/files/consul.service
    - mode: '0644'

consul_user:
  user.present:
    - name: consul
    - system: True
    - usergroup: True
    - home: /var/lib/mnha/consul
    - createhome: False
    - shell: /usr/sbin/nologin

{%- if source.kind == 'repository' %}

consul_repository:
  pkgrepo.managed:
    - name: deb [signed-by=/etc/apt/keyrings/hashicorp.asc] {{ source.url }} {{ source.suite }} main
    - file: /etc/apt/sources.list.d/hashicorp.list
    - key_url: {{ source.key_url or source.url ~ '/gpg' }}
    - aptkey: False
    - require_in:
      - pkg: consul_package
{%- endif %}
{%- if source.kind in ('repository', 'package') %}

consul_package:
  pkg.installed:
    - name: consul
    - require:
      - file: consul_unit
      - user: consul_user
{%- elif source.path.endswith('.deb') %}

consul_file:
  file.managed:
    - name: /var/cache/mnha/consul.deb
    - source: {{ source.path }}
    - source_hash: sha256={{ source.sha256 }}
    - makedirs: True

consul_package:
  pkg.installed:
    - sources:
      - consul: /var/cache/mnha/consul.deb
    - require:
      - file: consul_file
      - file: consul_unit
      - user: consul_user
{%- else %}

consul_file:
  file.managed:
    - name: /usr/bin/consul
    - source: {{ source.path }}
    - source_hash: sha256={{ source.sha256 }}
    - mode: '0755'
{%- endif %}
