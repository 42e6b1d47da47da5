"""Tempest's own virtual environment."""

from pathlib import Path

from nacre.cli import pinned

TEMPEST_VERSION = "47.0.0"
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
TEMPEST = pinned.Environment(f"tempest-{TEMPEST_VERSION}", CONSTRAINTS, wanted=(f"tempest=={TEMPEST_VERSION}",))


def ensure() -> Path:
    """The environment's `bin`, made if it is not there or holds other versions. Raises ClickException with pip's last words."""
    return TEMPEST.ensure()
