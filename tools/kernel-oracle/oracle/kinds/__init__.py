"""The kinds of steps.  Importing this package enters them in ``oracle.steps.KINDS``."""

from oracle.kinds import files, limits, looking, mappings, processes

__all__ = ["files", "limits", "looking", "mappings", "processes"]
