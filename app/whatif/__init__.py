"""What would happen: callers of the engine that work on copies of hosts."""

NEEDED = ("app.whatif.variants", "app.whatif.plans")  # what processes that do this work import beforehand
