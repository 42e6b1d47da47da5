"""Which hosts are lost: those whose work may be given to others.

A host is missing when its lease is out (`Hosts.alive`), and lost when GRACE_S more have passed, by this process's own clock: after a restart
of the API both begin anew. Where more hosts are missing than LOST_SHARE_MAX allows, it is the network or this process that is ill rather
than they: nobody is lost then, and the log says so once.
"""

import logging
from collections.abc import Collection

from nacre.cloud.core import Cloud
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.leases import Lease, Watch
from nacre.cloud.memory import PerStore

GRACE_S = 2.0
"""More than a node takes to cut off its guests once its own lease is out (see docs/decisions/0030)."""
LOST_SHARE_MAX = 0.5

log = logging.getLogger("nacre.liveness")


class Judgement:
    """What this process has seen of one store's hosts."""

    def __init__(self) -> None:
        self._missing = Watch()
        self._refused = False
        self.held_back = 0
        """How many hosts are missing of which none is taken for lost, since they are too many."""

    def lost(self, known: Collection[str], alive: frozenset[str]) -> frozenset[str]:
        """Look once more at all the hosts there are. May be asked as often as anybody likes."""
        missing = [host_id for host_id in known if host_id not in alive]
        lost = frozenset(str(ident) for ident in self._missing.over({ident: Lease(0, GRACE_S) for ident in missing}))
        if len(missing) <= len(known) * LOST_SHARE_MAX:
            self._refused, self.held_back = False, 0
            return lost
        if lost and not self._refused:
            log.error("%d of %d hosts are missing at once: none is taken for lost", len(missing), len(known))
        self._refused, self.held_back = bool(lost), len(lost)
        return frozenset()


_judgements = PerStore(lambda _store: Judgement())


def lost(cloud: Cloud) -> frozenset[str]:
    """The ids of the hosts that are lost now."""
    if cloud.presence is not None and not cloud.presence.reaches_store:
        # What other processes hear is not known for now.
        return frozenset()
    judgement = _judgements.of(cloud.store)
    return judgement.lost(cloud.store.read_now(hosts.ids), cloud.hosts.alive())


def warning(cloud: Cloud) -> str:
    """What an operator must know of it; empty where nothing is."""
    lost(cloud)
    count = _judgements.of(cloud.store).held_back
    if not count:
        return ""
    return (
        f"{count} hosts are missing at once, more than half: it may be the network rather than they, and none is taken for lost. "
        "Nothing is moved away from them before some are back, or are removed."
    )
