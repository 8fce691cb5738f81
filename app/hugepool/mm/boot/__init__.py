"""From a description or files of a real machine to a booted host."""
