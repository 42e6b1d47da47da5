"""Which containers a list means: the Engine API's filters, as the engine reads each of them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.containers import lookup
from nacre.cloud.containers.states import said, status_of
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.image import references
from nacre.panes.docker.filters import Filters, labels_match, until
from nacre.panes.docker.render import View
from nacre.panes.edge.times import parse as parse_time
from nacre.store.schema import now

Row = dict[str, Any]

FILTERS = frozenset(
    (
        *("ancestor", "before", "expose", "exited", "health", "id", "isolation", "is-task", "label", "name", "network", "node"),
        *("publish", "since", "status", "volume"),
    )
)
PRUNE_FILTERS = frozenset(("label", "label!", "until"))
STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
HEALTHS = ("none", "starting", "healthy", "unhealthy")
_PORTS = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?")


class Selection:
    """The filters of one request, checked. Raises Invalid."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        for name, allowed, what in (("status", STATUSES, "status"), ("health", HEALTHS, "health")):
            for value in filters.get(name, ()):
                if value not in allowed:
                    raise Invalid(f"invalid filter '{what}={value}'", field="filters")
        self._exits = {_number(value) for value in filters.get("exited", ())}
        self._names = [_pattern(value.removeprefix("/")) for value in filters.get("name", ())]
        self._ids = [_pattern(value) for value in filters.get("id", ())]
        self._ports = {name: _ports_of(filters.get(name, ())) for name in ("publish", "expose")}
        self._until = until(filters.get("until", ()), now(), _moment)

    def choose(self, conn: sa.Connection, ctx: Context, rows: Sequence[Row], *, show_all: bool) -> list[Row]:
        """Those of the rows (newest first) that the filters mean, as far as their own columns say it."""
        wide = show_all or any(name in self._filters for name in ("status", "exited", "since", "before"))
        rows = self._between(conn, ctx, rows)
        ancestors = self._ancestors(conn, ctx)
        return [
            row
            for row in rows
            if (wide or status_of(row) in ("running", "paused", "restarting")) and self._fits(row) and _is_of(row, ancestors)
        ]

    def narrow(self, views: Sequence[View]) -> list[View]:
        """Those that the filters mean by their networks, ports and mounts."""
        return [view for view in views if self._is_connected(view)]

    def _between(self, conn: sa.Connection, ctx: Context, rows: Sequence[Row]) -> list[Row]:
        found = list(rows)
        for name in self._filters.get("since", ()):
            moment = lookup.find(conn, ctx, name)["created_at"]
            found = [row for row in found if row["created_at"] > moment]
        for name in self._filters.get("before", ()):
            moment = lookup.find(conn, ctx, name)["created_at"]
            found = [row for row in found if row["created_at"] < moment]
        if self._until is not None:
            found = [row for row in found if row["created_at"] < self._until]
        return found

    def _ancestors(self, conn: sa.Connection, ctx: Context) -> frozenset[str] | None:
        """The ids of the images that are meant; None when none was asked for. One that does not exist has no containers."""
        if "ancestor" not in self._filters:
            return None
        found: set[str] = set()
        for name in self._filters["ancestor"]:
            try:
                image = references.resolve(conn, ctx, name)
            except (NotFound, Invalid):
                found.add(name)
                continue
            found |= {str(value) for value in (image["id"], image.get("docker_id"), image["digest"]) if value}
        return frozenset(found)

    def _fits(self, row: Row) -> bool:
        filters = self._filters
        checks: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("status", lambda: status_of(row) in filters["status"]),
            ("exited", lambda: _has_ended(row) and (row["exit_code"] or 0) in self._exits),
            ("name", lambda: any(pattern.search(row["name"]) for pattern in self._names)),
            ("id", lambda: any(pattern.match(lookup.docker_id(row["id"])) for pattern in self._ids)),
            ("label", lambda: labels_match(_labels(row), filters["label"])),
            ("label!", lambda: not any(labels_match(_labels(row), [each]) for each in filters["label!"])),
            ("health", lambda: (said(row).get("health") or "none") in filters["health"]),
            ("isolation", lambda: not filters["isolation"] or "default" in filters["isolation"]),
            ("is-task", lambda: not any(value in ("true", "1") for value in filters["is-task"])),
            ("node", lambda: row["host_id"] in filters["node"]),
        )
        return all(check() for name, check in checks if name in filters)

    def _is_connected(self, view: View) -> bool:
        filters = self._filters
        if "network" in filters:
            known = {text for each in view.endpoints for text in (each.network.name, each.network.docker_id, each.network.id)}
            short = {each.network.docker_id[:12] for each in view.endpoints}
            if not (known | short) & set(filters["network"]) and view.host_config["NetworkMode"] not in filters["network"]:
                return False
        if "volume" in filters:
            held = {text for each in view.mounts for text in (each["Destination"], each.get("Name"), each["Source"])}
            if not held & set(filters["volume"]):
                return False
        return self._has_port(view)

    def _has_port(self, view: View) -> bool:
        if "publish" in self._filters:
            published = {(each.host_port, each.protocol) for endpoint in view.endpoints for each in endpoint.published}
            published |= {(each.internal_port, each.protocol) for endpoint in view.endpoints for each in endpoint.published}
            if not published & self._ports["publish"]:
                return False
        if "expose" in self._filters:
            exposed = {
                (int(port), protocol or "tcp")
                for port, _, protocol in (text.partition("/") for text in view.config["ExposedPorts"] or ())
                if port.isdigit()
            }
            return bool(exposed & self._ports["expose"])
        return True


def _is_of(row: Mapping[str, Any], ancestors: frozenset[str] | None) -> bool:
    if ancestors is None:
        return True
    image = row["image"]
    asked = row["container"]["image_ref"] if row["container"] is not None else image.get("name")
    return bool(ancestors & {image["id"], image.get("docker_id"), image["digest"], asked})


def _labels(row: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = row["container"]["labels"] if row["container"] is not None else row["metadata"]
    return labels


def _has_ended(row: Mapping[str, Any]) -> bool:
    return status_of(row) in ("exited", "removing", "restarting")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Invalid(f"invalid filter 'exited={text}'", field="filters") from None


def _pattern(text: str) -> re.Pattern[str]:
    """A regular expression, where it is one; else the text itself."""
    try:
        return re.compile(text)
    except re.error:
        return re.compile(re.escape(text))


def _ports_of(values: Sequence[str]) -> set[tuple[int, str]]:
    """80, 80/udp, 8000-8080/tcp. Raises Invalid."""
    found: set[tuple[int, str]] = set()
    for value in values:
        match = _PORTS.fullmatch(value)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not match or last > 65535 or first > last:
            raise Invalid(f"invalid port specification: {value}", field="filters")
        found |= {(port, match[3] or "tcp") for port in range(first, last + 1)}
    return found


def _moment(text: str) -> float:
    """Seconds since the epoch, or an ISO 8601 moment."""
    try:
        return float(text)
    except ValueError:
        return parse_time(text, "until")
