"""A host's own networks: what is wanted, what is there, and how the one becomes the other."""
