# Every node is a master as well: one key pair, one tree, one set of accepted minions and secrets on all of them. Tree
# and pillar come from the master through which the states are applied, so edit on one node and apply there. What is not
# there any more goes from the others, too; of its pillar they get what their own cluster needs.
{%- set conf = salt['mnha_config.get']() %}
{%- do salt['mnha_config.secrets']() %}
{%- set shared = salt['pillar.get']('mnha_master') %}
{%- set home = '/etc/mnha/secrets/' ~ conf.cluster.name %}
{%- set pki = '/etc/salt/pki/master' %}
{%- set given = [] %}
{#- Its own tree is the source of this very run: nothing to copy, and `clean` there could only do harm. #}
{%- set is_source = opts.master in ('127.0.0.1', 'localhost', conf.node, conf.own.management, conf.own.storage) %}
include:
  - states.salt.first_master

{%- if not is_source %}
{%-   set folders = [] %}
{%-   for path in salt['cp.list_master']() %}
{%-     if '/' in path and path.split('/')[0] not in folders %}{% do folders.append(path.split('/')[0]) %}{% endif %}
{%-   endfor %}
{%-   for folder in folders | sort %}

salt_master_tree_{{ folder }}:
{%-     if folder.startswith('_') and salt['mnha_tree.is_synced']('/srv/mnha/salt/' ~ folder, folder[1:]) %}
  file.directory:
    - name: /srv/mnha/salt/{{ folder }}
{%-     else %}
  file.recurse:
    - name: /srv/mnha/salt/{{ folder }}
    - source: salt://{{ folder }}
    - clean: True
    - exclude_pat: E@__pycache__
    - backup: minion
    - file_mode: keep
{%-     endif %}
    - dir_mode: '0755'
    - require_in:
      - file: salt_master_tree
{%-   endfor %}

salt_master_tree:
  file.managed:
    - name: /srv/mnha/salt/top.sls
    - source: salt://top.sls
    - backup: minion
    - makedirs: True
    - require_in:
      - service: salt_master_running

salt_master_tree_build:
{%-   if pillar.get('mnha_build') %}
  file.managed:
    - name: /srv/mnha/salt/build.json
    - contents: {{ pillar.mnha_build | json | yaml_squote }}
    - require:
      - file: salt_master_tree
{%-   else %}
  file.absent:
    - name: /srv/mnha/salt/build.json
{%-   endif %}
{%-   for path in shared.get('pillar_others', []) %}

salt_master_no_pillar_{{ path }}:
  file.absent:
    - name: /srv/mnha/pillar/{{ path }}
{%-   endfor %}
{%-   for path in shared.pillar_files %}

salt_master_pillar_{{ path }}:
  file.managed:
    - name: /srv/mnha/pillar/{{ path }}
    - contents_pillar: mnha_master:pillar_files:{{ path }}
    - backup: minion
    - makedirs: True
    - dir_mode: '0750'
    - require_in:
      - service: salt_master_running
{%-   endfor %}

salt_master_follows:
  mnha_config.followed:
    - name: configuration
    - require:
      - file: salt_master_tree
{%-   for path in shared.pillar_files %}
      - file: salt_master_pillar_{{ path }}
{%-   endfor %}
{%- endif %}

salt_master_secrets_folder:
  file.directory:
    - names:
      - /etc/mnha/secrets
      - {{ home }}
    - mode: '0700'
    - makedirs: True
{%- for path in shared.pillar_files %}{% do given.append('/srv/mnha/pillar/' ~ path) %}{% endfor %}
{%- for path in shared.secrets %}
{%-   do given.append(home ~ '/' ~ path) %}

salt_master_secret_{{ path }}:
  file.managed:
    - name: {{ home }}/{{ path }}
    - contents_pillar: mnha_master:secrets:{{ path }}
    - mode: '0600'
    - makedirs: True
    - dir_mode: '0700'
    - show_changes: False
    - require:
      - file: salt_master_secrets_folder
{%- endfor %}

salt_master_pki:
  file.directory:
    - name: {{ pki }}
    - mode: '0700'
    - makedirs: True
{%- for suffix, mode in (('pem', '0400'), ('pub', '0644')) %}

# Salt 3008 names the pair after the master's id; older versions follow the link.
salt_master_key_{{ suffix }}:
  file.managed:
    - name: {{ pki }}/{{ conf.node }}.{{ suffix }}
    - contents_pillar: mnha_master:secrets:salt/master.{{ suffix }}
    - mode: '{{ mode }}'
    - show_changes: False
    - require:
      - file: salt_master_pki

salt_master_key_link_{{ suffix }}:
  file.symlink:
    - name: {{ pki }}/master.{{ suffix }}
    - target: {{ pki }}/{{ conf.node }}.{{ suffix }}
    - force: True
    - require:
      - file: salt_master_key_{{ suffix }}
    - require_in:
      - service: salt_master_running
{%- endfor %}
{%- for node in shared.minion_keys %}
{%-   do given.append(pki ~ '/minions/' ~ node) %}

salt_master_minion_{{ node }}:
  file.managed:
    - name: {{ pki }}/minions/{{ node }}
    - contents_pillar: mnha_master:minion_keys:{{ node }}
    - mode: '0644'
    - makedirs: True
{%- endfor %}

# What another master has given once, and does not have any more. The one that gives takes nothing from itself.
salt_master_given:
  mnha_master.given:
    - name: /var/lib/mnha/given.json
    - files: {{ given | json }}
    - is_source: {{ is_source }}
{%- if salt['service.status']('salt-master') %}

# The master that runs already was started with another key.
salt_master_new_key:
  cmd.run:
    - name: /usr/lib/mnha/restart-when-idle salt-master
    - onchanges:
      - file: salt_master_key_pem
    - require:
      - file: salt_restart_script
      - service: salt_master_running
    - order: last
{%- endif %}
