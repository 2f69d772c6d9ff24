"""What a master does: asks minions, fails over, migrates, reports."""
