"""The guard's process on each node: its loop, its socket (both ends), and the adapters to the world."""
