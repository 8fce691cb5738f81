"""What can be asked of a host, and the handler of each."""
