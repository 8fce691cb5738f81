"""The cost budgets, measured: ``python -m tests.bench`` (``make bench``) prints one table.

Nothing here is asserted.  Figures are ratios of things measured in the same run wherever the machine would
otherwise decide them; absolute times stand next to them for orientation.
"""
