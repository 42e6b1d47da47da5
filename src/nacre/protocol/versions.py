"""The protocol has one integer version. Each side states the range it speaks; N and N+1 always overlap."""

PROTOCOL_MIN = 1
PROTOCOL_MAX = 2
"""2: a node has a thin stream to each API process beside the main one (Hello.thin, Peers)."""
THIN_SINCE = 2


def agree(theirs_min: int, theirs_max: int) -> int | None:
    """The highest version that both sides speak, or None where the ranges do not meet."""
    version = min(PROTOCOL_MAX, theirs_max)
    return version if version >= max(PROTOCOL_MIN, theirs_min) else None
