"""What is done about API processes that are gone: they are struck out."""

import logging

from nacre.cloud.core import Cloud
from nacre.cloud.processes import operations

SWEEP_EVERY_S = 1.0

log = logging.getLogger("nacre.processes")


async def sweep(cloud: Cloud) -> None:
    """One turn, in the process that leads."""
    if cloud.presence is None or not cloud.presence.silent:
        return
    for ident in await cloud.store.write(operations.strike_out, cloud.presence.silent):
        log.warning("the API process %s was silent for too long: it is struck out", ident)
