"""What can go wrong between the service and its database."""


class StoreFailure(Exception):
    """The database refused or cannot be reached; nothing was kept."""


class Damaged(StoreFailure):
    """What is stored is not what this service wrote, or cannot be read as such; trying again will not help."""


class Busy(StoreFailure):
    """The database or the host is too contended right now; nothing was kept, a later try may work."""


class WouldWait(Exception):
    """The answer is not at hand: who cannot wait has somebody else ask again."""


class RowRefused(Exception):
    """The database refused a row by a rule that no race explains: a bug of hugepool; nothing was kept."""


class StaleRevision(Exception):
    """Somebody else changed the host first: load it again and apply again."""


class HostsFull(Exception):
    """There are as many hosts as are kept: the argument."""


class KeyTaken(Exception):
    """Somebody else stored an answer for this idempotency key first: it is the answer."""
