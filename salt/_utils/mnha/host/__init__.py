"""What a host's own daemons are told."""
