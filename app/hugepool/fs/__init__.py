"""/proc and /sys as text: reading a real machine's files, showing a host as files, write(2) on them."""
