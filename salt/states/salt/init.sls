# Salt itself: minions that know all masters, and on every node a master that can serve the cluster.
{%- set salt_conf = salt['mnha_config.get']().cluster.salt %}
include:
  - states.claimed
  - states.salt.packages
  - states.salt.minion
{%- if salt_conf.masters_on_nodes %}
  - states.salt.master
{%- endif %}
