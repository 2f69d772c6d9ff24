{#- A failover as an orchestration, for sites that want steps of their own before or after it:

      salt-run state.orchestrate orch.failover pillar='{cluster: example, vm: mnvm, epoch: 7, reporter: node2}'

    The reactor runs the same step, mnha_policy.failover, directly: that is 0.4-0.6 s faster (docs/salt-latency.md). #}
{%- set p = pillar %}
failover:
  salt.runner:
    - name: mnha_policy.failover
    - cluster: {{ p.cluster | json }}
    - vm: {{ p.vm | json }}
    - epoch: {{ p.epoch | json }}
    - reporter: {{ p.reporter | json }}
    - seq: {{ p.get('seq', 0) | json }}
    - attempt: {{ p.get('attempt', 0) | json }}
    - event: {{ p.get('event', 'operator') | json }}
