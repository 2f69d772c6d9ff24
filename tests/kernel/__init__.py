"""What only a kernel can show, tried on a kernel of its own (:mod:`lab.uml`): it may be stopped, frozen and reset.

``test_*.py`` runs here; the other files run in the machine.
"""
