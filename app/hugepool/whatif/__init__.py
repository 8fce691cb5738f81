"""What would happen: callers of the engine that work on copies of hosts."""

NEEDED = (
    "hugepool.whatif.variants",
    "hugepool.whatif.plans",
)  # what processes that do this work import beforehand
