"""What the old suite's operators have and type: its configuration file, and the shapes of what it printed.

Pure. Needs pydantic, as :mod:`mnha.config` does, whose model is the one that counts: a file of the old suite is read
into that, and written from it.
"""
