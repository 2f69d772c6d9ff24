"""The pure core: what a guard knows, decides and does, and who should run a VM. Standard library only."""
