"""What the nodes see of ports and routers, recorded. Statuses are derived of it where they are shown."""

from collections.abc import Iterable

import sqlalchemy as sa

from nacre.cloud.network.tables import ports, routers
from nacre.protocol.messages import Observation
from nacre.store import Prepared


def _see(table: sa.Table) -> Prepared:
    seen: sa.BindParameter[str | None] = sa.bindparam("seen")
    fault: sa.BindParameter[str] = sa.bindparam("cause")
    return Prepared(
        table.update()
        .where(
            table.c.id == sa.bindparam("ident"),
            table.c.host_id == sa.bindparam("host"),
            sa.or_(table.c.observed.is_distinct_from(seen), table.c.fault != fault),
        )
        .values(observed=seen, fault=fault)
    )


SEE: dict[str, Prepared] = {"port": _see(ports), "router": _see(routers)}


def observe(conn: sa.Connection, host_id: str, observations: Iterable[Observation]) -> list[str]:
    """Records what the host's node says of the ports and routers that are bound to it; of others nothing. Returns the ids that changed."""
    changed: list[str] = []
    for observation in observations:
        see = SEE.get(observation.kind)
        if see is None:
            continue
        seen = None if observation.state == "gone" else observation.state
        fault = observation.fault if seen == "error" else ""
        if see.run(conn, ident=observation.id, host=host_id, seen=seen, cause=fault):
            changed.append(observation.id)
    return changed
