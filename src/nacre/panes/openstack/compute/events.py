"""What other services tell Compute: POST /os-server-external-events."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute import actions, servers
from nacre.cloud.compute.states import state_of
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.call import convert
from nacre.panes.openstack.compute import schemas_admin as schemas
from nacre.panes.openstack.compute.dialect import name_field

EVENTS_MAX = 1000
SINCE = {"volume-extended": 51, "power-update": 76}
POWERS = ("POWER_ON", "POWER_OFF")


def _take(conn: sa.Connection, ctx: Context, event: schemas.ExternalEvent) -> int:
    """Act on one event; the code of its own in the answer: 200 done, 404 no such server, 422 nothing that can be done now.

    Networking's events have been acted on already: ports and servers lie in one store. The host looks at the server once more.
    """
    try:
        row = servers.get(conn, ctx, event.server_uuid)
    except NotFound:
        return 404
    if row["host_id"] is None:
        return 422
    if event.name == "power-update":
        state = state_of(row).vm_state
        if event.tag == "POWER_ON" and state == "stopped":
            actions.start(conn, ctx, row["id"])
        elif event.tag == "POWER_OFF" and state == "active":
            actions.stop(conn, ctx, row["id"])
    else:
        actions.refresh(conn, ctx, row["id"])
    return 200


def _take_all(conn: sa.Connection, ctx: Context, events: list[schemas.ExternalEvent]) -> list[int]:
    return [_take(conn, ctx, event) for event in events]


async def create(call: Call) -> Reply:
    """200 when every event was taken, 207 when some were, 404 when none was."""
    sent = await call.body(dict[str, Any])
    raw = sent.get("events")
    if not isinstance(raw, list) or not raw or len(raw) > EVENTS_MAX or len(sent) != 1:
        raise Invalid(f"Invalid input for field/attribute events. It is a list of 1 to {EVENTS_MAX} events.", field="events")
    events = [_event(call, item, position) for position, item in enumerate(raw)]
    codes = await call.write(_take_all, events)
    if set(codes) == {404}:
        raise NotFound("No instances found for any event")
    shown = [
        {"name": event.name, "server_uuid": event.server_uuid, "status": "completed" if code == 200 else "failed", "code": code}
        | ({"tag": event.tag} if event.tag else {})
        for event, code in zip(events, codes, strict=True)
    ]
    return Reply({"events": shown}, 200 if set(codes) == {200} else 207)


def _event(call: Call, item: Any, position: int) -> schemas.ExternalEvent:
    where = f"events[{position}]"
    try:
        event = convert(item, schemas.ExternalEvent)
    except Invalid as error:
        raise name_field(error, where) from None
    if not call.at_least(SINCE.get(event.name, 1)):
        raise Invalid(f"{event.name!r} needs version 2.{SINCE[event.name]}.", field=f"{where}.name")
    if event.name == "power-update" and event.tag not in POWERS:
        raise Invalid(f"A power-update's tag is one of {', '.join(POWERS)}.", field=f"{where}.tag")
    return event
