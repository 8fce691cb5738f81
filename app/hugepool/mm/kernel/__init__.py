"""The kernel's rules, in files named after the kernel's."""
