"""A world in which the production guard runs unchanged: seeded, single-threaded, without a wall clock.

``docs/simulation.md`` says what is modelled and what is not, and how to run, replay and shorten.

=============  ==========================================================================================
module         what it models
=============  ==========================================================================================
``engine``     global time in microseconds, the one heap of events, the one source of chance
``process``    what befalls a process of guard or fencer: stall, death, also in the middle of a call
``host``       a node: clock, power, freeze, storage, the guard's process and its replacement, the watchdog
``fencer``     the fencer's process, around the product's own rules
``hypervisor`` libvirtd, QEMU and the image's lock
``consul``     the lease and the wish in Consul: leader, requests, replies, cuts, lagging watches
``policy``     Salt's masters and the operator: who orders what, rightly or wrongly
``faults``     the script of a seed: what breaks when, where and for how long
``world``      all of it together, and the invariants that are checked at every step
``sweep``      many seeds; a failure is replayed exactly, and shortened
``compiled``   the same, compiled to C
``scenario``   reads and plays the folders of ``scenarios/``
``machine``    the world as a state machine of hypothesis
``mutants``    known-bad variants, each of which must be caught, and by which layer
``mutated``    lets the unit tests see one of them
=============  ==========================================================================================
"""

import sys
from pathlib import Path

_UTILS = str(Path(__file__).resolve().parents[2] / "salt" / "_utils")
if _UTILS not in sys.path:
    sys.path.insert(0, _UTILS)
