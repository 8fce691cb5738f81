"""What would happen: callers of the engine that work on copies of hosts."""
