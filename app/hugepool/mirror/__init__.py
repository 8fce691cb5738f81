"""The files of a host where programs look for them: in a folder, in a mount, in a namespace.

Knows the service by its HTTP interface alone (``hugepool.client``).
"""
