"""A real cluster of KVM nodes on one machine: systemd-nspawn nodes, two switched networks, a shared folder, a guest.

The lab gives bare Debian 12 nodes with a Salt minion and a cache of packages; everything else on them is done by the
product's own states, as on real hosts. `lab.cluster.Cluster` is the interface for tests and benchmarks, `python3 -m
lab VERB` the one for people.
"""

import os

os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
"""For mfusepy, and for whoever is begun from here: it takes libfuse 2 where another package has brought that along, and
that knows no `/dev/fd/N`, and would mount over `/dev/fuse` itself.
"""
