"""The only I/O of the guard: each module is one door of :mod:`mnha.core.ports` to the real world."""
