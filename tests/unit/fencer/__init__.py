"""The fencer's promise, without the kernel."""
