"""What a test of another program needs: a service of its own, and hosts that are new for each test.

Knows the service by its HTTP interface and its command line alone.  ``hugepool.pytest_plugin`` has it as fixtures.
"""
