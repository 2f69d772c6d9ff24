"""Placeholder."""
def lab_pillar_files(plans, repository):
    return {}
