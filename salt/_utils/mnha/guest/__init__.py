"""The guest's libvirt domain: rendered, compared, defined."""
