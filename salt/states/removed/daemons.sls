# What runs ends first, and nothing else is touched on a node where that fails.
removed_no_vm_runs:
  mnvm.none_alive:
    - name: the cluster's VMs
    - failhard: True
{#- Of a service that is not there a dry run would tell that it would be stopped. #}
{%- for service in ('mnha-guard', 'mnha-fencer') if salt['service.available'](service) %}

# The guard before the fencer, which has nothing left to hold then, and lets the watchdog be.
removed_{{ service }}:
  service.dead:
    - name: {{ service }}
    - enable: False
    - failhard: True
{%- endfor %}

removed_domains:
  mnvm.undefined:
    - name: the cluster's VMs
    - failhard: True
{#- With libvirt's secret, by the name that the pillar gives it. #}
{%- for vm in salt['pillar.get']('mnha:cluster:vms', {}) %}

removed_ceph_{{ vm }}:
  mnha_ceph.forgotten:
    - name: {{ vm }}
{%- endfor %}
