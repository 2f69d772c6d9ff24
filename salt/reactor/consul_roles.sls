{#- A node misses policies or tokens of its Consul: only a master may make them. Its name is that of the sender. #}
{{ ("consul_roles-" ~ data.id) | json }}:
  runner.mnha_policy.consul_roles:
    - args:
        cluster: {{ data.data.cluster | json }}
        node: {{ data.id | json }}
        wanted: {{ data.data.wanted | json }}
