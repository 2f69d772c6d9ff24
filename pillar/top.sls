# Which minion belongs to which cluster. One line a cluster; a cluster's file stands in clusters/.
base:
  'node[123]':
    - clusters.example
