"""Which hosts are lost: those whose work may be given to others.

A host is missing when its lease is out (`Hosts.alive`), and lost when GRACE_S more have passed, by this process's own clock: after a restart
of the API both begin anew. Where more hosts are missing than LOST_SHARE_MAX allows, it is the network or this process that is ill rather
than they: nobody is lost then, and the log says so once.
"""

import logging
from collections.abc import Collection
from weakref import WeakKeyDictionary

from nacre.cloud.core import Cloud
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.leases import Lease, Watch
from nacre.store import Store

GRACE_S = 5.0
LOST_SHARE_MAX = 0.5

log = logging.getLogger("nacre.liveness")


class Judgement:
    """What this process has seen of one store's hosts."""

    def __init__(self) -> None:
        self._missing = Watch()
        self._refused = False

    def lost(self, known: Collection[str], alive: frozenset[str]) -> frozenset[str]:
        """Look once more at all the hosts there are. May be asked as often as anybody likes."""
        missing = [host_id for host_id in known if host_id not in alive]
        lost = frozenset(str(ident) for ident in self._missing.over({ident: Lease(0, GRACE_S) for ident in missing}))
        if len(missing) <= len(known) * LOST_SHARE_MAX:
            self._refused = False
            return lost
        if lost and not self._refused:
            log.error("%d of %d hosts are missing at once: none is taken for lost", len(missing), len(known))
        self._refused = bool(lost)
        return frozenset()


_judgements: WeakKeyDictionary[Store, Judgement] = WeakKeyDictionary()


def lost(cloud: Cloud) -> frozenset[str]:
    """The ids of the hosts that are lost now."""
    judgement = _judgements.setdefault(cloud.store, Judgement())
    return judgement.lost(cloud.store.read_now(hosts.ids), cloud.hosts.alive())
