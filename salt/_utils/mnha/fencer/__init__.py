"""The fencer: the small process that keeps the promise *until T, then dead*, whatever becomes of the guard.

`rules` has the promise, pure; `slices` the kernel's groups; `watchdog` the device; `main` the loop and the socket.
Standard library only, and little of it: what the guarantee rests on is read in one sitting.
"""
