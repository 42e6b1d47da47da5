"""Networks whose driver is a plugin of Docker's: what is the plugin's own affair is refused here, not half done."""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.errors import Conflict
from nacre.cloud.network.tables import networks, ports
from nacre.store import Prepared

_OF_NETWORK = Prepared(sa.select(networks.c.driver).where(networks.c.id == sa.bindparam("network")))
_OF_DEVICE = Prepared(
    sa.select(networks.c.driver)
    .join(ports, ports.c.network_id == networks.c.id)
    .where(ports.c.device_id == sa.bindparam("device"), networks.c.driver != "")
    .distinct()
    .order_by(networks.c.driver)
)


def check(conn: sa.Connection, network_id: str, what: str) -> None:
    """Raises Conflict where the network has such a driver. `what` begins the sentence."""
    refuse({"id": network_id, "driver": _OF_NETWORK.scalar(conn, network=network_id)}, what)


def refuse(network: Row, what: str) -> None:
    """The same for a network's row."""
    if network.get("driver"):
        raise Conflict(
            f"{what} not available on network {network['id']}: its driver {network['driver']} is in charge of it.",
            code="NetworkHasDriver",
        )


def drivers_of(conn: sa.Connection, server_id: str) -> tuple[str, ...]:
    """The plugins that a host must have to bear the server."""
    return tuple(_OF_DEVICE.scalars(conn, device=server_id))
