"""The command `zsha` on the nodes: the old suite's verbs and shapes, over what this project has.

What only asks reads the guard's socket and Consul itself, and needs neither Salt nor a disk that can be written to.
What changes something is `salt-run`'s, on this node's master.
"""
