"""Host aggregates: groups of hosts, for administrators."""

from typing import Any

from msgspec import UNSET

from nacre.cloud.collection import Row
from nacre.cloud.compute import aggregates
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.times import micros
from nacre.panes.openstack.compute import schemas_admin as schemas
from nacre.panes.openstack.compute.dialect import body_under, only


def _brief(call: Call, row: Row) -> Row:
    """As create answers."""
    shown: Row = {
        "id": row["id"],
        "name": row["name"],
        "availability_zone": row["metadata"].get(aggregates.ZONE),
        "created_at": micros(row["created_at"], ""),
        "updated_at": micros(row["updated_at"], ""),
        "deleted": False,
        "deleted_at": None,
    }
    return shown | {"uuid": row["uuid"]} if call.at_least(41) else shown


def _whole(call: Call, row: Row) -> Row:
    return _brief(call, row) | {"hosts": row["hosts"], "metadata": row["metadata"]}


def _shown(call: Call, row: Row) -> Reply:
    return Reply({"aggregate": _whole(call, row)})


async def index(call: Call) -> Reply:
    return Reply({"aggregates": [_whole(call, row) for row in await call.read(aggregates.find)]})


async def show(call: Call) -> Reply:
    return _shown(call, await call.read(aggregates.get, call.path["aggregate_id"]))


async def create(call: Call) -> Reply:
    sent = await body_under(call, "aggregate", schemas.AggregateCreate)
    return Reply({"aggregate": _brief(call, await call.write(aggregates.create, sent.name, sent.availability_zone))})


async def update(call: Call) -> Reply:
    sent = await body_under(call, "aggregate", schemas.AggregateUpdate)
    name = sent.name if isinstance(sent.name, str) else None
    zone = sent.availability_zone if isinstance(sent.availability_zone, str) else None
    changes_zone = sent.availability_zone is not UNSET
    return _shown(call, await call.write(aggregates.update, call.path["aggregate_id"], name, zone, changes_zone))


async def delete(call: Call) -> Reply:
    await call.write(aggregates.delete, call.path["aggregate_id"])
    return Reply(status=200)


async def action(call: Call) -> Reply:
    """add_host, remove_host, set_metadata."""
    sent = await call.body(dict[str, Any])
    name = next(iter(sent), "")
    ident = call.path["aggregate_id"]
    if name == "set_metadata":
        changes = only(sent, name, schemas.AggregateMetadata).metadata
        return _shown(call, await call.write(aggregates.set_metadata, ident, changes))
    if name == "add_host":
        return _shown(call, await call.write(aggregates.add_host, ident, only(sent, name, schemas.AggregateHost).host))
    return _shown(call, await call.write(aggregates.remove_host, ident, only(sent, "remove_host", schemas.AggregateHost).host))
