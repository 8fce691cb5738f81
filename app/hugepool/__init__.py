"""A REST microservice that simulates one Linux host's hugetlb pool."""

from importlib.metadata import version

__version__ = version("hugepool")
