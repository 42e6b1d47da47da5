"""GET /events: the project's log, from where the client wants it, and then what happens as it happens.

Source: the Engine API's reference (`EventMessage`); `status`, `id` and `from` are what versions before 1.52 expect beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from aiohttp import web

from nacre.cloud.containers import events, waiting
from nacre.cloud.errors import Invalid
from nacre.panes.docker.filters import Filters, labels_match, parse
from nacre.panes.docker.hangups import unless_gone
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.times import parse as parse_time
from nacre.store import StoreError
from nacre.store.schema import now

Row = dict[str, Any]

NAMED_KINDS = ("config", "container", "daemon", "image", "network", "node", "plugin", "secret", "service", "volume")
"""Kinds of things that a filter of the same name picks by id or name."""
FILTERS = frozenset((*NAMED_KINDS, "event", "label", "scope", "type"))
PAGE_EVENTS = 1000
"""How many events are read and sent at a time."""
SCOPE = "local"
NANO = 1_000_000_000
LEGACY_KINDS = ("container", "image")


def message(row: Mapping[str, Any]) -> Row:
    """One event, as all versions up to 1.51 read it."""
    attributes = row["attributes"]
    shown: Row = {}
    if row["type"] in LEGACY_KINDS:
        shown = {"status": row["action"], "id": row["actor_id"]}
        if row["type"] == "container":
            shown["from"] = attributes.get("image", "")
    at = int(row["at"] * 1_000_000) * 1000
    return {
        **shown,
        "Type": row["type"],
        "Action": row["action"],
        "Actor": {"ID": row["actor_id"], "Attributes": attributes},
        "scope": SCOPE,
        "time": at // NANO,
        "timeNano": at,
    }


def fits(filters: Filters, row: Mapping[str, Any]) -> bool:
    """Values of one filter are alternatives (labels must all hold); filters of several names must all fit."""
    action, attributes = row["action"], row["attributes"]
    checks: tuple[tuple[str, Callable[[Sequence[str]], bool]], ...] = (
        ("type", lambda values: row["type"] in values),
        # `exec_create` means `exec_create: sh` too.
        ("event", lambda values: action in values or action.partition(":")[0] in values),
        ("scope", lambda values: SCOPE in values),
        ("label", lambda values: labels_match(attributes, values)),
        *((kind, _names(kind, row)) for kind in NAMED_KINDS),
    )
    return all(check(filters[name]) for name, check in checks if filters.get(name))


def _names(kind: str, row: Mapping[str, Any]) -> Callable[[Sequence[str]], bool]:
    """Whether one of the values is the thing's id, the beginning of it, or its name. An image is also meant by its containers' events."""
    attributes = row["attributes"]
    known: set[str] = set()
    if row["type"] == kind:
        known = {row["actor_id"], row["actor_id"].removeprefix("sha256:"), attributes.get("name", "")}
    if kind == "image":
        known |= {attributes.get("image", "")}
    if kind == "node":
        known |= {attributes.get("node.name", ""), attributes.get("node.id", "")}
    if kind == "image":
        known |= {name.partition("@")[0].rpartition(":")[0] for name in known if ":" in name.rpartition("/")[2]}
    known.discard("")

    def matches(values: Sequence[str]) -> bool:
        prefixes = tuple(value for value in values if value)
        is_own = row["type"] == kind
        return any(value.removeprefix("/") in known for value in values) or (
            is_own and bool(prefixes) and row["actor_id"].removeprefix("sha256:").startswith(prefixes)
        )

    return matches


def moment(call: Call, name: str) -> float | None:
    """Seconds since the epoch, with a fraction or without, or RFC 3339; None when it is not given. Raises Invalid."""
    text = call.query.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        return parse_time(text, name)
    if not 0 <= value < 1 << 53:
        raise Invalid(f'strconv.ParseInt: parsing "{text}": value out of range', field=name)
    return value


def _start(conn: sa.Connection, project_id: str, since: float | None) -> int:
    """The event after which the client wants them."""
    return events.last_id(conn) if since is None else events.before(conn, project_id, since)


async def stream(call: Call) -> Reply:
    filters = parse(call, FILTERS)
    since, until = moment(call, "since"), moment(call, "until")
    if since is not None and until is not None and since > until:
        raise Invalid(f"`since` time ({call.query['since']}) cannot be after `until` time ({call.query['until']})", field="since")
    project = call.context.project_id or ""
    last = await call.read(lambda conn, ctx: _start(conn, project, since))
    response = web.StreamResponse(headers={**call.service.headers, "Content-Type": "application/json"})
    await response.prepare(call.request)
    reply = Reply(response=response)
    try:
        while True:
            rows = await _next(call, project, last, until)
            if not rows:
                break
            last = rows[-1]["id"]
            chosen = [row for row in rows if (until is None or row["at"] <= until) and fits(filters, row)]
            if chosen:
                await response.write(b"".join(msgspec.json.encode(message(row)) + b"\n" for row in chosen))
        await response.write_eof()
    except (ConnectionError, StoreError):
        return reply
    return reply


async def _next(call: Call, project: str, last: int, until: float | None) -> list[Row] | None:
    """What came after the last one, as soon as there is something; None when there will be no more for this client."""

    def look(conn: sa.Connection) -> list[Row] | None:
        return events.since(conn, project, last, PAGE_EVENTS) or None

    timeout_s = None if until is None else max(0.0, until - now())
    return await unless_gone(call, waiting.until(call.cloud, events.topic(project), look, timeout_s))


ROUTES: tuple[Route, ...] = (Route("GET", "/events", stream, "docker:read", "Follow what happens"),)
