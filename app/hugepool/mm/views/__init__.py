"""What is read of a host.  Nothing here changes it."""
