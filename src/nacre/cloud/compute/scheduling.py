"""What the scheduler gets to see for a server: hosts with their books, and where it is asked for, facts and what else is on each host."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.lookup import docker_id
from nacre.cloud.containers.tables import containers
from nacre.cloud.errors import Invalid, Unavailable
from nacre.cloud.hosts import fleet
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.scheduler import (
    NO_CONDITIONS,
    Conditions,
    ExpressionError,
    HostView,
    Neighbour,
    NoValidHost,
    Plan,
    Ratios,
    Request,
    parse_all,
    scan,
)
from nacre.cloud.scheduler.demands import need_facts

FactsOf = Callable[[str], Mapping[str, Any]]
"""Host id -> its facts, as `nacre.cloud.core.Hosts.facts`."""

TRIES_MAX = 10
"""So many hosts that were planned may turn out to be full when they are claimed, before the search is given up."""
_HINTS = ("constraint", "affinity", "whitelist")


def conditions_of(hints: Mapping[str, object]) -> Conditions:
    """Nova's scheduler hints: constraint, affinity and whitelist hold expressions as Docker's pane takes them, one or a list of them;
    same_host and different_host hold servers' ids. Raises Invalid."""
    texts = {name: _texts(name, hints[name]) for name in (*_HINTS, "same_host", "different_host") if hints.get(name)}
    if not texts:
        return NO_CONDITIONS
    parsed = {}
    for name in _HINTS:
        try:
            parsed[name] = parse_all(texts.get(name, ()))
        except ExpressionError as error:
            raise _refused(name, str(error)) from None
    return Conditions(
        constraints=parsed["constraint"],
        affinities=parsed["affinity"],
        whitelists=parsed["whitelist"],
        same_host=tuple(texts.get("same_host", ())),
        different_host=tuple(texts.get("different_host", ())),
    )


def _texts(name: str, value: object) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise _refused(name, "It must be a text or a list of texts.")
    return listed


def _refused(name: str, why: str) -> Invalid:
    return Invalid(f"Invalid input for field/attribute os:scheduler_hints.{name}. {why}", field=f"os:scheduler_hints.{name}")


def views(
    conn: sa.Connection,
    project_id: str,
    conditions: Conditions,
    *,
    alive: frozenset[str] | None,
    ratios: Ratios,
    facts: FactsOf | None,
    facts_needed: bool = False,
) -> dict[str, HostView]:
    """The hosts by their ids, with no more than the conditions need. Of what is on a host, only the project's own things are seen."""
    found = fleet.of(conn).views(conn, alive, ratios)
    if (conditions.need_facts or facts_needed) and facts is not None:
        found = {ident: replace(host, facts=facts(ident)) for ident, host in found.items()}
    if conditions.need_neighbours:
        there = _neighbours(conn, project_id, conditions)
        found = {ident: replace(host, neighbours=tuple(there.get(ident, ()))) for ident, host in found.items()}
    return found


class Contended(Unavailable):
    """Other processes claimed each host that was planned, again and again."""


class Search:
    """A place for one server after the other, on the hosts as their project sees them."""

    def __init__(
        self,
        conn: sa.Connection,
        project_id: str,
        *,
        alive: frozenset[str] | None,
        ratios: Ratios,
        facts: FactsOf | None,
    ) -> None:
        self._conn = conn
        self._project_id = project_id
        self._alive = alive
        self._ratios = ratios
        self._facts = facts
        self._fleet = fleet.of(conn)
        self._seen: dict[str, HostView] | None = None
        """The hosts with facts and neighbours, where requests ask for those."""

    def place(self, request: Request, row: Mapping[str, Any]) -> Plan:
        """Plan and claim: the server of that row is in the book of the first host of the plan. Raises NoValidHost, ExpressionError,
        Contended."""
        size = {name: row[name] for name in ("vcpus", "memory_mb", "disk_gb")}
        for _ in range(TRIES_MAX):
            found = self._plan(request)
            if hosts.take(self._conn, found.best[0], **size):
                self._claimed(found.best[0], row)
                return found
            self._misjudged(found.best[0])
        raise Contended("All hosts that could take it were claimed by others meanwhile; try again.")

    def choose(self, request: Request, row: Mapping[str, Any]) -> Plan:
        """As `place`, but only the lock is taken: the claim is made by who asks, in the same transaction."""
        size = {name: row[name] for name in ("vcpus", "memory_mb", "disk_gb")}
        for _ in range(TRIES_MAX):
            found = self._plan(request)
            if hosts.hold(self._conn, found.best[0], **size):
                return found
            self._misjudged(found.best[0])
        raise Contended("All hosts that could take it were claimed by others meanwhile; try again.")

    def _plan(self, request: Request) -> Plan:
        facts_needed = need_facts(request.demands)
        if request.conditions == NO_CONDITIONS and not facts_needed:
            return self._fleet.plan(self._conn, request, self._alive, self._ratios)
        if self._seen is None:
            self._seen = self._look(request.conditions, facts_needed)
        try:
            return scan(tuple(self._seen.values()), request)
        except NoValidHost:
            if not self._fleet.is_old(self._conn):
                raise
        self._seen = self._look(request.conditions, facts_needed)
        return scan(tuple(self._seen.values()), request)

    def _look(self, conditions: Conditions, facts_needed: bool) -> dict[str, HostView]:
        known = {"alive": self._alive, "ratios": self._ratios, "facts": self._facts}
        return views(self._conn, self._project_id, conditions, facts_needed=facts_needed, **known)  # type: ignore[arg-type]

    def _claimed(self, host: HostView, row: Mapping[str, Any]) -> None:
        """The next one of the same request sees it."""
        if self._seen is not None:
            self._seen[host.id] = claimed(host, row)

    def _misjudged(self, host: HostView) -> None:
        self._fleet.doubt(host.id)
        self._seen = None


def _neighbours(conn: sa.Connection, project_id: str, conditions: Conditions) -> dict[str, list[Neighbour]]:
    """The project's servers by host. What no expression asks for is left out: decoding it takes longer than all the rest."""
    keys = {expression.key for expression in conditions.affinities}
    columns: list[sa.ColumnElement[Any]] = [
        servers.c.id,
        servers.c.host_id,
        sa.func.coalesce(containers.c.name, servers.c.name).label("name"),
    ]
    if "image" in keys:
        columns += [servers.c.image_id, servers.c.image["name"].as_string().label("image_name"), containers.c.image_ref]
    if keys - {"container", "image"}:
        columns += [containers.c.labels, servers.c.metadata]
    if conditions.exposed:
        columns += [containers.c.config, containers.c.host_config]
    wanted = (
        sa.select(*columns)
        .select_from(servers.outerjoin(containers, containers.c.server_id == servers.c.id))
        .where(servers.c.project_id == project_id, servers.c.host_id.is_not(None), servers.c.gone.is_(False))
    )
    found: dict[str, list[Neighbour]] = {}
    for row in conn.execute(wanted).mappings():
        found.setdefault(row["host_id"], []).append(_neighbour(dict(row)))
    return found


def _neighbour(row: Mapping[str, Any]) -> Neighbour:
    """A Nova server's metadata are its labels."""
    in_host_mode = (row.get("host_config") or {}).get("NetworkMode") == "host"
    return Neighbour(
        ids=(row["id"], docker_id(row["id"])),
        name=row["name"],
        images=_image_names(row.get("image_id"), row.get("image_name"), row.get("image_ref")),
        labels=row.get("labels") or row.get("metadata") or {},
        exposed=tuple((row.get("config") or {}).get("ExposedPorts") or ()) if in_host_mode else (),
    )


def _image_names(*names: str | None) -> tuple[str, ...]:
    """Each name, and the repository of those with a tag."""
    known = [name for name in names if name]
    repositories = [name.rpartition(":")[0] for name in known if ":" in name.rpartition("/")[2]]
    return tuple(dict.fromkeys(known + repositories))


def claimed(host: HostView, row: Mapping[str, Any]) -> HostView:
    """The snapshot's host with this server on it, so that the next one of the same request sees it."""
    image = row["image"]
    newcomer = Neighbour(
        ids=(row["id"], docker_id(row["id"])),
        name=row["name"],
        images=_image_names(row["image_id"], image.get("name")),
        labels=row["metadata"],
    )
    return replace(
        host,
        claimed_vcpus=host.claimed_vcpus + row["vcpus"],
        claimed_memory_mb=host.claimed_memory_mb + row["memory_mb"],
        claimed_disk_gb=host.claimed_disk_gb + row["disk_gb"],
        guests=host.guests + 1,
        neighbours=(*host.neighbours, newcomer),
    )
