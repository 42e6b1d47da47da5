"""What an operator may set about hosts."""

from dataclasses import dataclass

LEASE_S_MIN, LEASE_S_MAX = 3.0, 3600.0
"""Shorter than three seconds a node cannot cut its guests off in time (docs/decisions/0030)."""


@dataclass(frozen=True)
class HostRules:
    """Raises ValueError for what makes no sense."""

    lease_s: float = 15.0
    """How long a host that is silent keeps its lease. Then its servers of whom that is wanted are cut off, and made anew elsewhere."""

    def __post_init__(self) -> None:
        if not LEASE_S_MIN <= self.lease_s <= LEASE_S_MAX:
            raise ValueError(f"lease_s must be {LEASE_S_MIN:.0f} to {LEASE_S_MAX:.0f} seconds")
