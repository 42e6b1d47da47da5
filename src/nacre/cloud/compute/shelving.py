"""Shelve, unshelve: https://docs.openstack.org/api-ref/compute/#shelve-server-shelve-action.

    shelve      one transaction: the intent `shelved` (the node stops the guest), an image without bytes, a row of `shelved_images`
    sweep       once the guest has stopped: the image's bytes come from its host; once they are there, the host lets go of the server,
                with its claim; addresses and the place in the quota stay
    unshelve    one transaction: a host is claimed, the server's image is now the one it became, the intent is `running`
    sweep       once it runs, or is gone: the image goes

Every step looks at what is there, so a process that dies anywhere in between costs a repetition.
"""

import logging
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import snapshots, timeline
from nacre.cloud.compute.actions import intend, ready
from nacre.cloud.compute.evacuating import NEVER_SEEN
from nacre.cloud.compute.migrations import SIZES
from nacre.cloud.compute.placing import Placing, choose
from nacre.cloud.compute.rescuing import refuse_container
from nacre.cloud.compute.servers import changeable, kept_image, let_go
from nacre.cloud.compute.states import state_of
from nacre.cloud.compute.tables import servers, shelved_images
from nacre.cloud.context import Context, internal
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Conflict, Unavailable
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.hosts.desired import mark
from nacre.cloud.image import layered
from nacre.cloud.image import operations as images
from nacre.cloud.image.data import drop_all
from nacre.cloud.image.tables import images as image_table
from nacre.cloud.network import servers as network
from nacre.cloud.processes import unfinished
from nacre.cloud.scheduler import ExpressionError, NoValidHost
from nacre.store import StoreError
from nacre.store.schema import now

Row = dict[str, Any]

FROM_STATES = frozenset({"active", "stopped", "paused", "suspended"})
SWEEP_EVERY_S = 1.0
RETRY_S = 10.0
"""How long after a failure an image is tried again."""

log = logging.getLogger("nacre.compute")

KIND = "shelving"
"""Of what is unfinished while a process brings a server's image."""


def shelve(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises NotFound, Conflict (state, or another image of it is being made), Invalid for a container of Docker's."""
    row = ready(conn, ctx, ident, "shelve", FROM_STATES)
    refuse_container(conn, row, "shelved")
    if conn.execute(sa.select(shelved_images.c.server_id).where(shelved_images.c.server_id == ident)).first() is not None:
        raise Conflict(f"Instance {ident} was unshelved a moment ago: try again.", code="InstanceInvalidState")
    _queue(conn, ctx, row)
    intend(conn, ctx, row, "shelve", {"power": "shelved"})
    timeline.begin(conn, ctx, row, "shelve")


def _queue(conn: sa.Connection, ctx: Context, row: Row) -> str:
    image: str = snapshots.queue(conn, ctx, row, f"{row['name']}-shelved", {}, "snapshot", "shelve")["id"]
    conn.execute(shelved_images.insert().values(server_id=row["id"], image_id=image, retry_at=0.0))
    return image


def offload_now(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """A server that is shelved is offloaded as soon as its image is whole: nobody needs to ask. Raises Conflict for any other."""
    row = changeable(conn, ctx, ident)
    state = state_of(row)
    if state.vm_state != "shelved":
        raise Conflict(
            f"Cannot 'shelve_offload' instance {ident} while it is in vm_state {state.vm_state}", code="InstanceInvalidState"
        )
    timeline.begin(conn, ctx, row, "shelveOffload")


def unshelve(
    conn: sa.Connection,
    ctx: Context,
    ident: str,
    known: Placing,
    zone: str | None = None,
    *,
    unpin: bool = False,
) -> None:
    """`zone`: ZONE, ZONE:HOST or :HOST; without it the one that the server is pinned to, if any. `unpin`: not pinned to a zone any more.

    Raises Conflict, also where no host can take it or its image is gone.
    """
    row = changeable(conn, ctx, ident)
    state = state_of(row)
    if state.vm_state != "shelved_offloaded" or row["gone"]:
        raise Conflict(
            f"Cannot 'unshelve' instance {ident} while it is in vm_state {state.vm_state}", code="InstanceInvalidState"
        )
    image = _image(conn, ident)
    if image is None:
        raise Conflict(f"Unshelve requested but the image of instance {ident} cannot be found.", code="UnshelveException")
    pinned = None if unpin else (row["requested_zone"] or "").partition(":")[0] or None
    pinned = (zone or "").partition(":")[0] or pinned
    wanted_zone = f"{pinned or ''}:{zone.partition(':')[2]}" if zone and ":" in zone else pinned
    try:
        host = choose(conn, {**row, "requested_zone": wanted_zone}, known, action="unshelve")
    except (NoValidHost, ExpressionError) as error:
        raise Conflict(str(error), code="NoValidHost") from None
    hosts.claim(conn, host.id, **{name: row[name] for name in SIZES})
    network.move(conn, ident, host.id)
    changes = {
        **NEVER_SEEN,
        "host_id": host.id,
        "availability_zone": host.availability_zone,
        "requested_zone": pinned,
        "power": "running",
        "boots": row["boots"] + 1,
        "rebuilds": row["rebuilds"] + 1,
        "image": image,
    }
    moved = {**row, "host_id": host.id}
    intend(conn, ctx, moved, "unshelve", changes)
    let_go(conn, row)
    timeline.begin(conn, ctx, moved, "unshelve")


def _image(conn: sa.Connection, server_id: str) -> Row | None:
    """What the server became, as a server keeps its image; None when somebody deleted it."""
    image_id = conn.execute(sa.select(shelved_images.c.image_id).where(shelved_images.c.server_id == server_id)).scalar()
    known = conn.execute(
        sa.select(image_table.c.id).where(image_table.c.id == image_id, image_table.c.status == "active")
    ).first()
    return None if known is None else kept_image(images.for_server(conn, internal(), str(image_id)))


async def sweep(cloud: Cloud) -> None:
    """One turn: whatever the next step of each shelved server is."""
    for row in cloud.store.read_now(_waiting):
        server_id, image_id = row["server_id"], row["image_id"]
        if row["power"] != "shelved":
            if row["power"] is None or (row["observed_generation"] >= row["generation"] and row["observed_state"] is not None):
                drop_all(cloud, await cloud.store.write(_discard, server_id, image_id))
        elif row["host_id"] is not None and row["observed_state"] == "stopped" and row["retry_at"] <= now():
            cloud.background.start(_advance(cloud, server_id))


def _waiting(conn: sa.Connection) -> list[Row]:
    """The shelved servers that no process is at; of one that is gone, or about to go, `power` is None."""
    columns = ("host_id", "generation", "observed_generation", "observed_state")
    power = sa.case((servers.c.gone.is_(False), servers.c.power), else_=None).label("power")
    statement = sa.select(shelved_images, power, *(servers.c[name] for name in columns)).select_from(
        shelved_images.outerjoin(servers, servers.c.id == shelved_images.c.server_id)
    )
    statement = statement.where(shelved_images.c.server_id.not_in(unfinished.under_way(KIND)))
    return [dict(row) for row in conn.execute(statement).mappings()]


async def _advance(cloud: Cloud, server_id: str) -> None:
    """The image's bytes, if they are not there yet; then the host lets go."""
    try:
        found = await cloud.store.write(_to_do, server_id, cloud.process_id)
        if found is None:
            return
        server, image_id = found
        if image_id is not None:
            await snapshots.bring(cloud, server, image_id)
        await cloud.store.write(_offload, server_id)
    except (CloudError, StoreError, OSError) as error:
        log.warning("server %s is not shelved yet: %s", server_id, error)
        # A host that does not answer is waited for until the deadline; what else keeps it from becoming an image is said at once.
        cause = "" if isinstance(error, Unavailable | StoreError) else f"The server cannot become an image yet: {error}"
        await unfinished.undo(cloud, _postpone, server_id, cause, cloud.process_id)
    except BaseException:
        await unfinished.undo(cloud, unfinished.end, KIND, server_id, cloud.process_id)
        raise


def _to_do(conn: sa.Connection, server_id: str, process_id: str) -> tuple[Row, str | None] | None:
    """The server with the image whose bytes are missing, None where they are there; this process is at it from now on. None when it is not
    being shelved any more, or somebody is at it.

    An image that somebody deleted meanwhile is begun anew."""
    row = conn.execute(sa.select(servers).where(servers.c.id == server_id)).mappings().first()
    if row is None or row["power"] != "shelved" or row["host_id"] is None or row["gone"]:
        return None
    if not unfinished.begin(conn, process_id, KIND, server_id):
        return None
    image_id = conn.execute(sa.select(shelved_images.c.image_id).where(shelved_images.c.server_id == server_id)).scalar_one()
    status = conn.execute(sa.select(image_table.c.status).where(image_table.c.id == image_id)).scalar()
    if status is None:
        conn.execute(shelved_images.delete().where(shelved_images.c.server_id == server_id))
        image_id = _queue(conn, internal(row["request_id"]), dict(row))
    return dict(row), None if status == "active" else str(image_id)


def _offload(conn: sa.Connection, server_id: str) -> None:
    """The host is told that the server is not its matter any more, and has its claim back."""
    unfinished.end(conn, KIND, server_id)
    row = conn.execute(sa.select(servers).where(servers.c.id == server_id)).mappings().first()
    if row is None or row["power"] != "shelved" or row["host_id"] is None or row["gone"]:
        return
    started = now()
    hosts.claim(conn, row["host_id"], guests=-1, **{name: -row[name] for name in SIZES})
    network.move(conn, server_id, None)
    values = {**NEVER_SEEN, "observed_generation": row["generation"], "host_id": None, "availability_zone": "", "deadline": None}
    no_fault = {"fault": None, "fault_code": None, "fault_at": None}
    conn.execute(servers.update().where(servers.c.id == server_id).values(**values, **no_fault, updated_at=now()))
    mark(conn, row["host_id"], "guest", server_id)
    timeline.event(conn, dict(row), "compute_shelve_offload_instance", started, now())


def _postpone(conn: sa.Connection, server_id: str, cause: str, process_id: str) -> None:
    unfinished.end(conn, KIND, server_id, process_id)
    conn.execute(shelved_images.update().where(shelved_images.c.server_id == server_id).values(retry_at=now() + RETRY_S))
    if cause:
        being_shelved = (servers.c.id == server_id, servers.c.power == "shelved", servers.c.host_id.is_not(None))
        fault = {"fault": cause, "fault_code": 500, "fault_at": now()}
        conn.execute(servers.update().where(*being_shelved).values(**fault, updated_at=now()))


def _discard(conn: sa.Connection, server_id: str, image_id: str) -> list[str]:
    """The server runs again or is gone: its image goes. Returns the digests of the image's bytes, to be dropped once this is committed."""
    conn.execute(shelved_images.delete().where(shelved_images.c.server_id == server_id))
    if conn.execute(sa.select(image_table.c.id).where(image_table.c.id == image_id)).first() is None:
        return []
    digests = layered.blobs_of(conn, image_id)
    conn.execute(image_table.delete().where(image_table.c.id == image_id))
    return digests
