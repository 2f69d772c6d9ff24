"""The guard's pure core: timings, record, rules, decisions, and the guard that carries them out."""
