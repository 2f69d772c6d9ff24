"""Consul's administration: client, rights, servers' configuration."""
