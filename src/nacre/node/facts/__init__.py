"""What a host knows of itself: capacity, and facts under Facter's names, live ones refreshed while the node runs."""

from nacre.node.facts.collector import REFRESH_EVERY_S, Facts, Told
from nacre.node.facts.host import boot_id, capacity, hostname
from nacre.node.facts.table import FACTS

__all__ = ["FACTS", "REFRESH_EVERY_S", "Facts", "Told", "boot_id", "capacity", "hostname"]
