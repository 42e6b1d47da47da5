"""The reconciler: it looks at every service that is not as wanted, asks the rules, and carries out their plan.

Each action is a transaction of its own that looks again at what it rests on. A process that ends between two of them has lost nothing: the
next run asks the rules anew. What fails is written on the service as its cause, and tried again after a while that grows.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import create, events, lifecycle
from nacre.cloud.containers.scheduling import NotSchedulable
from nacre.cloud.containers.specs import ContainerSpec
from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.identity.changes import changed as identity_changed
from nacre.cloud.identity.tables import application_credentials
from nacre.cloud.image import references
from nacre.cloud.leases import boottime_s
from nacre.cloud.stacks import aliases, finding, making, members, rules
from nacre.cloud.stacks.operations import TOPIC
from nacre.cloud.stacks.rules import Action, Host, Member, Wanted
from nacre.cloud.stacks.specs import stored
from nacre.cloud.stacks.tables import service_containers, services, stacks, triggers
from nacre.cloud.volumes import operations as volumes
from nacre.store import Store
from nacre.store.schema import new_id

Row = dict[str, Any]

SWEEP_EVERY_S = 2.0
PASSES_MAX = 50
"""Of one run: after that the next run goes on."""
RETRY_S_MIN, RETRY_S_MAX = 0.5, 60.0
QUIET_S = 30.0
"""What was not needed for so long (beyond its pause) begins with the shortest pause again."""
CAUSE_MAX = 1000

log = logging.getLogger("nacre.stacks")


class Pauses:
    """How long what was done, and is needed again, has to wait: by this process's own clock."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}

    def may(self, key: str) -> bool:
        """Whether it may be done now; the first time always."""
        times, at = self._known.get(key, (0, 0.0))
        return not times or boottime_s() >= at + self._pause(times)

    def done(self, key: str) -> None:
        times, at = self._known.get(key, (0, 0.0))
        moment = boottime_s()
        self._known[key] = (1 if moment > at + self._pause(times) + QUIET_S else times + 1, moment)

    def forget_old(self) -> None:
        moment = boottime_s()
        self._known = {
            key: (times, at) for key, (times, at) in self._known.items() if moment <= at + self._pause(times) + QUIET_S
        }

    @staticmethod
    def _pause(times: int) -> float:
        return min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(times - 1, 10)) if times else 0.0


class Memory:
    """What this process has seen of one store: nothing that is needed to be right."""

    def __init__(self, store: Store) -> None:
        self.pauses = Pauses()
        self.changed = asyncio.Event()
        self._watched: dict[str, Callable[[], None]] = {}
        self._store = store
        store.watch(TOPIC, self._wake)

    def _wake(self, topic: str, value: Any) -> None:
        self.changed.set()

    def watch(self, server_ids: Iterable[str]) -> None:
        """Be woken by what happens to these servers, and to no others."""
        wanted = {events.server_topic(ident) for ident in server_ids}
        for topic in self._watched.keys() - wanted:
            self._watched.pop(topic)()
        for topic in wanted - self._watched.keys():
            self._watched[topic] = self._store.watch(topic, self._wake)


_memories: WeakKeyDictionary[Store, Memory] = WeakKeyDictionary()


def memory_of(cloud: Cloud) -> Memory:
    if cloud.store not in _memories:
        _memories[cloud.store] = Memory(cloud.store)
    return _memories[cloud.store]


async def woken(cloud: Cloud) -> None:
    """Returns when something changed that services depend on."""
    await memory_of(cloud).changed.wait()


async def run(cloud: Cloud) -> None:
    """Bring every service nearer to what is wanted of it, until nothing can be done at once."""
    memory = memory_of(cloud)
    memory.pauses.forget_old()
    for _ in range(PASSES_MAX):
        memory.changed.clear()
        acted = False
        rows = cloud.store.read_now(_all_services)
        for row in rows:
            try:
                acted |= await _service(cloud, memory, row)
            except Exception:
                # One service that cannot be understood does not keep the others waiting.
                log.exception("the service %s could not be looked at", row["id"])
            await asyncio.sleep(0)
        for project_id in {row["project_id"] for row in rows}:
            if cloud.store.read_now(aliases.differing, project_id):
                await cloud.store.write(aliases.reconcile, project_id)
        await _drop_empty_stacks(cloud)
        memory.watch(cloud.store.read_now(_all_servers))
        if not acted:
            return


def _all_services(conn: sa.Connection) -> list[Row]:
    """Those that others are linked to come first."""
    wanted = sa.select(services).order_by(services.c.created_at, services.c.id)
    rows = {row["id"]: dict(row) for row in conn.execute(wanted).mappings()}
    links = {
        ident: [other for link in row["spec"]["linked_to_service"] for other in _target(conn, row, link)]
        for ident, row in rows.items()
    }
    return [rows[ident] for ident in rules.in_link_order(links)]


def _target(conn: sa.Connection, row: Row, link: Row) -> list[str]:
    """The id of the service that a link leads to, if it is there."""
    try:
        return [finding.service(conn, making.context_of(row), link["to_service"], row["stack_id"])["id"]]
    except CloudError:
        return []


def _all_servers(conn: sa.Connection) -> list[str]:
    return list(conn.execute(sa.select(service_containers.c.server_id)).scalars())


async def _drop_empty_stacks(cloud: Cloud) -> None:
    if cloud.store.read_now(_empty_stacks):
        await cloud.store.write(lambda conn: conn.execute(stacks.delete().where(stacks.c.id.in_(_empty_stacks(conn)))))


def _empty_stacks(conn: sa.Connection) -> list[str]:
    """Those that are to go, and have no service left."""
    left = sa.select(services.c.stack_id).where(services.c.stack_id.is_not(None))
    return list(conn.execute(sa.select(stacks.c.id).where(stacks.c.gone, stacks.c.id.not_in(left))).scalars())


def wanted_of(row: Row) -> Wanted:
    spec = stored(row)
    return Wanted(
        intent=row["intent"],
        target=row["target"],
        revision=row["revision"],
        strategy=spec.deployment_strategy,
        sequential=spec.sequential_deployment,
        autorestart=spec.autorestart,
        autodestroy=spec.autodestroy,
    )


def host_views(conn: sa.Connection, cloud: Cloud) -> list[Host]:
    alive = cloud.hosts.alive()
    return [
        Host(
            id=host.id,
            hostname=host.hostname,
            usable=host.alive and host.enabled and host.accepted,
            guests=host.guests,
            labels=host.labels,
            zone=host.availability_zone,
        )
        for host in hosts.snapshot(conn, alive, cloud.settings.ratios)
    ]


async def _service(cloud: Cloud, memory: Memory, row: Row) -> bool:
    """Whether anything was done."""
    if row["intent"] == "running" and await _new_image(cloud, row):
        return True
    kept = cloud.store.read_now(members.of_services, [row["id"]])[row["id"]]
    present = [members.member(each) for each in kept]
    there = rules.allowed(cloud.store.read_now(host_views, cloud), stored(row).tags) if row["intent"] == "running" else []
    actions = rules.plan(wanted_of(row), present, there)
    acted = False
    for action in actions:
        key = f"{row['id']} {row['revision']} {action.verb} {action.number or action.server_id}"
        if not memory.pauses.may(key):
            continue
        if action.verb in ("create", "start"):
            memory.pauses.done(key)
        if not await _carried_out(cloud, row, action, there, present):
            memory.pauses.done(key)
            return acted
        acted = True
    if not acted:
        acted = await _settle(cloud, row, kept, present, actions)
    return acted


async def _new_image(cloud: Cloud, row: Row) -> bool:
    """autoredeploy: its image's name means another image than when the containers were made."""
    spec = stored(row)
    if not spec.autoredeploy:
        return False

    def look(conn: sa.Connection) -> str:
        try:
            found = references.find(conn, making.context_of(row), spec.image)
        except CloudError:
            return ""
        return found["id"] if found is not None else ""

    image_id = cloud.store.read_now(look)
    if not image_id or image_id == row["image_id"]:
        return False
    log.info("service %s: %s is another image now; redeploying", row["id"], spec.image)
    values = {
        "image_id": image_id,
        "revision": row["revision"] + 1,
        "phase": "redeploying",
        "reuse_volumes": True,
        "synchronized": True,
        "cause": "",
    }
    return await cloud.store.write(_change, row, values)


def _change(conn: sa.Connection, row: Row, values: Row) -> bool:
    """Write that, unless somebody has changed what is wanted meanwhile. Returns whether it was written."""
    same = sa.and_(services.c.id == row["id"], services.c.generation == row["generation"])
    values = {**values, "generation": row["generation"] + 1} if "revision" in values else values
    return conn.execute(services.update().where(same).values(values)).rowcount > 0


async def _settle(cloud: Cloud, row: Row, kept: Sequence[Row], present: Sequence[Member], actions: Sequence[Action]) -> bool:
    """Nothing was left to do: the operation that was under way is over, a service that goes is gone, the cause is the containers' own."""
    if row["intent"] == "gone" and not kept:
        return await cloud.store.write(_drop, row)
    values: Row = {}
    if row["phase"] and rules.is_settled(wanted_of(row), present, actions):
        values["phase"] = ""
    cause = members.cause(kept)
    if cause != row["cause"] and (cause or not actions):
        values["cause"] = cause[:CAUSE_MAX]
    return bool(values) and await cloud.store.write(_change, row, values)


async def _carried_out(cloud: Cloud, row: Row, action: Action, there: Sequence[Host], present: Sequence[Member]) -> bool:
    """Whether it went well; else the cause is on the service."""
    try:
        if action.verb == "create":
            await cloud.store.write(_create, cloud, row, action, there, present)
        else:
            await cloud.store.write(_VERBS[action.verb], cloud, row, action)
    except CloudError as error:
        if row["cause"] != error.message[:CAUSE_MAX]:
            log.info("service %s (%s): %s %s: %s", row["id"], row["name"], action.verb, action.number or action.server_id, error)
            await cloud.store.write(_change, row, {"cause": error.message[:CAUSE_MAX]})
        return False
    return True


def _still(conn: sa.Connection, row: Row) -> bool:
    """Whether what is wanted is what was planned for."""
    generation = conn.execute(sa.select(services.c.generation).where(services.c.id == row["id"])).scalar()
    return generation is not None and generation == row["generation"]


def _create(
    conn: sa.Connection, cloud: Cloud, row: Row, action: Action, there: Sequence[Host], present: Sequence[Member]
) -> None:
    """Make a container and start it. Raises CloudError."""
    kept = members.of_services(conn, [row["id"]])[row["id"]]
    if not _still(conn, row) or any(each["number"] == action.number and not each["leaving"] for each in kept):
        return
    ctx = making.context_of(row, f"req-{new_id()}")
    name = _name(conn, row, action.number, ctx)
    ident = new_id()
    spec = making.container_spec(conn, ctx, row, name, action.number, ident, cloud.settings.base_url, host_id=action.host_id)
    alive = cloud.hosts.alive()
    _place(conn, cloud, ctx, spec, _tiers(row, action, there, present), alive)
    # One request id is one action of a server.
    lifecycle.start(conn, making.context_of(row, f"req-{new_id()}"), ident, alive)
    host_id = conn.execute(sa.select(servers.c.host_id).where(servers.c.id == ident)).scalar()
    kept_of_it = {"server_id": ident, "service_id": row["id"], "number": action.number, "name": name, "host_id": host_id or ""}
    conn.execute(service_containers.insert().values(revision=row["revision"], **kept_of_it))
    conn.execute(services.update().where(services.c.id == row["id"]).values(cause=""))


def _place(
    conn: sa.Connection, cloud: Cloud, ctx: Context, spec: ContainerSpec, tiers: Sequence[Sequence[str]], alive: frozenset[str]
) -> None:
    """On a host of the first tier that takes it: the scheduler chooses among a tier's. Raises NotSchedulable."""
    refused = NotSchedulable("no host is alive, enabled and has all the tags")
    for names in tiers:
        config = {**spec.config, "Env": [f"whitelist:node=={'|'.join(names)}", *spec.config["Env"]]}
        placed = msgspec.structs.replace(spec, config=config)
        try:
            create.create(conn, ctx, placed, alive=alive, ratios=cloud.settings.ratios, facts=cloud.hosts.facts)
        except NotSchedulable as error:
            refused = error
        else:
            return
    raise refused


def _tiers(row: Row, action: Action, there: Sequence[Host], present: Sequence[Member]) -> list[list[str]]:
    if action.host_id:
        return [[host.hostname] for host in there if host.id == action.host_id and host.usable]
    own = Counter(each.host_id for each in present if each.status != "leaving")
    return rules.tiers(there, stored(row).deployment_strategy, own)


def _name(conn: sa.Connection, row: Row, number: int, ctx: Context) -> str:
    """SERVICE-N; where somebody else has that name, SERVICE-N.STACK, as the whole name is with Tutum."""
    name = f"{row['name']}-{number}"
    stack = finding.stack_name(conn, row)
    return f"{name}.{stack}" if stack and create.holder(conn, ctx, name) is not None else name


def _of(server_id: str) -> sa.ColumnElement[bool]:
    return service_containers.c.server_id == server_id


def _start(conn: sa.Connection, cloud: Cloud, row: Row, action: Action) -> None:
    if not _still(conn, row):
        return
    ctx = making.context_of(row, f"req-{new_id()}")
    if lifecycle.start(conn, ctx, action.server_id, cloud.hosts.alive()).changed:
        values = {"due": False, "restarts": service_containers.c.restarts + 1}
        conn.execute(service_containers.update().where(_of(action.server_id)).values(values))


def _stop(conn: sa.Connection, cloud: Cloud, row: Row, action: Action) -> None:
    if _still(conn, row):
        lifecycle.stop(conn, making.context_of(row, f"req-{new_id()}"), action.server_id, "", None)


def _remove(conn: sa.Connection, cloud: Cloud, row: Row, action: Action) -> None:
    """The row stays until nothing is left of the server."""
    if _still(conn, row):
        _away(conn, row, action.server_id)
        conn.execute(service_containers.update().where(_of(action.server_id)).values(leaving=True))


def _destroy(conn: sa.Connection, cloud: Cloud, row: Row, action: Action) -> None:
    if _still(conn, row):
        _away(conn, row, action.server_id)
        conn.execute(service_containers.update().where(_of(action.server_id)).values(destroyed=True))


def _away(conn: sa.Connection, row: Row, server_id: str) -> None:
    gone = conn.execute(sa.select(servers.c.gone).where(servers.c.id == server_id)).scalar()
    if gone is False:
        lifecycle.remove(conn, making.context_of(row, f"req-{new_id()}"), server_id, force=True)


def _forget(conn: sa.Connection, cloud: Cloud, row: Row, action: Action) -> None:
    conn.execute(service_containers.delete().where(_of(action.server_id)))


_VERBS = {"start": _start, "stop": _stop, "remove": _remove, "destroy": _destroy, "forget": _forget}


def _drop(conn: sa.Connection, row: Row) -> bool:
    """The service and what it brought: its triggers, its credential, the volumes of its containers."""
    ctx = making.context_of(row, f"req-{new_id()}")
    if conn.execute(sa.select(service_containers.c.server_id).where(service_containers.c.service_id == row["id"])).first():
        return False
    conn.execute(triggers.delete().where(triggers.c.service_id == row["id"]))
    if row["credential_id"]:
        conn.execute(application_credentials.delete().where(application_credentials.c.id == row["credential_id"]))
        identity_changed(conn, row["user_id"])
    conn.execute(services.delete().where(services.c.id == row["id"]))
    prefix = making.own_prefix(row)
    volumes.prune(conn, ctx, [each["name"] for each in volumes.find(conn, ctx) if each["name"].startswith(prefix)])
    return True
