"""What the nodes see of volumes, recorded."""

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from nacre.cloud.volumes.tables import volumes
from nacre.protocol.messages import Observation
from nacre.store import Prepared

_SEE = Prepared(
    volumes.update()
    .where(volumes.c.id == sa.bindparam("ident"), volumes.c.host_id == sa.bindparam("host"))
    .values(
        observed=sa.bindparam("seen"),
        state=sa.bindparam("details", type_=sa.JSON(none_as_null=True)),
        fault=sa.bindparam("cause"),
    )
)
_FORGET = Prepared(
    volumes.delete().where(
        volumes.c.id == sa.bindparam("ident"), volumes.c.host_id == sa.bindparam("host"), volumes.c.gone.is_(True)
    )
)


def observe(conn: sa.Connection, host_id: str, observations: Iterable[Observation]) -> None:
    """Records what the host's node says of the volumes that lie there; of others nothing. The row of one that is to go, goes."""
    for seen in observations:
        if seen.kind != "volume":
            continue
        if seen.state == "gone" and _FORGET.run(conn, ident=seen.id, host=host_id):
            continue
        details = msgspec.to_builtins(seen.volume) if seen.volume is not None else None
        observed = None if seen.state == "gone" else seen.state
        _SEE.run(
            conn, ident=seen.id, host=host_id, seen=observed, details=details, cause=seen.fault if observed == "error" else ""
        )
