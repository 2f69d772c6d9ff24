# Tests only: what the states write down of a configuration that is applied.
cluster:
  file.managed:
    - name: {{ opts.mnha_cluster_file }}
    - source: salt://states/guard/files/cluster.json
    - template: jinja

recorded:
  mnha_config.recorded:
    - require:
      - file: cluster
