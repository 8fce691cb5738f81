"""What a test of another program needs: its own service, and hosts that are new for each test.

Knows the service by its HTTP interface and its command line alone.  ``hugepool.pytest_plugin`` has it as fixtures.
"""
