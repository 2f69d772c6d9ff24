include:
  - states.consul.packages

{%- set conf = salt['mnha_config.get']() %}
{%- do salt['mnha_config.secrets']() %}

consul_folder:
  file.directory:
    - name: /etc/mnha/consul
    - user: root
    - group: consul
    - mode: '0750'
    - makedirs: True
    - require:
      - user: consul_user

consul_data_folder:
  file.directory:
    - name: /var/lib/mnha/consul
    - user: consul
    - group: consul
    - mode: '0750'
    - makedirs: True
    - require:
      - user: consul_user

consul_tls_folder:
  file.directory:
    - name: /etc/mnha/tls
    - mode: '0755'
    - makedirs: True

consul_tokens_folder:
  file.directory:
    - name: /etc/mnha/tokens
    - mode: '0700'
    - makedirs: True
{%- for name, key, group, mode in (
      ('tls/ca.pem', 'ca', 'root', '0644'),
      ('tls/node.pem', 'certificate', 'root', '0644'),
      ('tls/node-key.pem', 'key', 'consul', '0640'),
      ('tokens/guard', 'guard_token', 'root', '0600'),
      ('tokens/policy', 'policy_token', 'root', '0600')) %}

consul_secret_{{ name }}:
  file.managed:
    - name: /etc/mnha/{{ name }}
    - contents_pillar: mnha_secrets:{{ key }}
    - user: root
    - group: {{ group }}
    - mode: '{{ mode }}'
    - show_changes: False
    - require:
      - file: consul_tls_folder
      - file: consul_tokens_folder
      - user: consul_user
{%- endfor %}

# The installed version decides about the options' names, so these are rendered when their turn comes, not before.
consul_server_config:
  file.managed:
    - name: /etc/mnha/consul/server.json
    - source: salt://states/consul/files/server.json
    - template: jinja
    - user: root
    - group: consul
    - mode: '0640'
    - check_cmd: consul validate -config-format=json
    - require:
      - file: consul_folder
      - {{ 'file: consul_file' if conf.cluster.consul.source.kind == 'file' and not conf.cluster.consul.source.path.endswith('.deb') else 'pkg: consul_package' }}
      - file: consul_secret_tls/ca.pem
      - file: consul_secret_tls/node.pem
      - file: consul_secret_tls/node-key.pem

consul_secret_config:
  file.managed:
    - name: /etc/mnha/consul/secrets.json
    - source: salt://states/consul/files/secrets.json
    - template: jinja
    - user: root
    - group: consul
    - mode: '0640'
    - show_changes: False
    - require:
      - file: consul_server_config
