"""The guard's process on each node.

`main` puts it together, `loop` gives events to the guards and `ending` says when it is over; `node` is what all guards
share and `protected` what one VM has of its own, both made of `adapters`; `threads` keeps these going, whatever comes;
`server` and `client` are the ends of the socket, `requests` what may be asked there; `status` and `journal` tell;
`checks`, `prober` and `readiness` look at whether a VM could run here.
"""
