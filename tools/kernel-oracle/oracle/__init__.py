"""Boots a real kernel in QEMU, drives its hugetlb pool step by step, and records what it answers."""
