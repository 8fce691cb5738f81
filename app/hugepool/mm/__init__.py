"""The simulated kernel: pure, deterministic, plain data and functions.

Files carry the kernel's names, so that one can be read next to the other.  Nothing here knows of HTTP, SQL,
clocks or randomness: time arrives as a field of the command.
"""
