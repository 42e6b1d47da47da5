"""Which tests run: a file of ids, less the services that nobody asked for."""

from collections.abc import Iterable
from pathlib import Path

from nacre.cli.conformance.results import plain, service_of

SMOKE = Path(__file__).with_name("smoke.txt")
"""Every test of Tempest 47 that is tagged `smoke`."""
REQUIRED = Path(__file__).with_name("required.txt")
"""What the interop guideline requires of the four services."""
USUAL = (SMOKE, REQUIRED)
SERVICES = ("identity", "compute", "image", "network")
NEEDS_VOLUMES = ("ServersTestBootFromVolume",)
"""Classes of other services that boot from a volume: they run only when `volume` is among the services."""


def select(services: frozenset[str], *files: Path) -> list[str]:
    """The ids of the files (one a line, `#` begins a comment) whose service is among those."""
    lines = (line.strip() for file in files for line in file.read_text().splitlines())
    ids = [line for line in lines if line and not line.startswith("#")]
    return sorted(test_id for test_id in dict.fromkeys(ids) if wanted(test_id, services))


def of_services(ids: Iterable[str], services: frozenset[str]) -> list[str]:
    """Those under `tempest.api` of these services."""
    return sorted(test_id for test_id in ids if test_id.startswith("tempest.api.") and wanted(test_id, services))


def wanted(test_id: str, services: frozenset[str]) -> bool:
    if service_of(test_id) not in services:
        return False
    return "volume" in services or plain(test_id).split(".")[-2] not in NEEDS_VOLUMES
