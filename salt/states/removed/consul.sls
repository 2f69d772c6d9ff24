# The server with all its records: leases, history, versions of the configuration.
{%- if salt['service.available']('consul') %}
removed_consul:
  service.dead:
    - name: consul
    - enable: False
    - failhard: True
{%- endif %}

removed_consul_package:
  pkg.purged:
    - name: consul

removed_consul_data:
  file.absent:
    - name: /var/lib/mnha/consul

removed_consul_user:
  user.absent:
    - name: consul
{%- if salt['pillar.get']('mnha:cluster:consul:source:kind') == 'repository' %}
{%-   for path in ('/etc/apt/sources.list.d/hashicorp.list', '/etc/apt/keyrings/hashicorp.asc') %}

removed_consul_{{ path }}:
  file.absent:
    - name: {{ path }}
{%-   endfor %}
{%- endif %}
