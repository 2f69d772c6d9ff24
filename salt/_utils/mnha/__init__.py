"""High availability for a management-node VM on KVM hosts: the library that Salt's modules and the guard share.

The safety core (``model``, ``timing``, ``lease``, ``decide``, ``ports``, ``guard``) needs nothing but the standard
library; ``config`` needs pydantic and is imported only by those who read a configuration.
"""

__version__ = "0.1.0"
