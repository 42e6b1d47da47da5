"""HTTP and TCP checks: this process plans when each is due, and the node that bears the service's address asks, from inside the
tenant's network. The API process itself never connects to anything that a tenant has named.

Only addresses of the project's own ports are asked. An answer is written down when it is another one: another status, or another cause of
the same status (refused, redirected, another number of HTTP's). Where only what the service itself says is other, it is written every
OUTPUT_EVERY_S.
"""

import asyncio
import ipaddress
import logging
import random
from collections import Counter
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.core import Cloud
from nacre.cloud.discovery import checks, durations
from nacre.cloud.discovery.checks import INTERVAL_NS_MIN, TIMEOUT_NS_DEFAULT, TIMEOUT_NS_MAX
from nacre.cloud.discovery.tables import services
from nacre.cloud.errors import CloudError, Invalid
from nacre.cloud.leases import boottime_s
from nacre.cloud.memory import PerStore
from nacre.cloud.network.tables import fixed_ips, ports
from nacre.protocol.probes import OUTPUT, Probe, Probed

PLAN_EVERY_S = 0.5
AT_ONCE_MAX = 128
"""Checks of all projects that are under way at the same time; others wait for their turn, the one that has waited longest is next."""
AT_ONCE_OF_PROJECT_MAX = 32
"""Those of one project: services that do not answer keep nobody else's from being asked."""
STAGGER_S_MAX = 1.0
"""Checks that this process meets for the first time are spread over so long, so that not all of a cloud's come at once."""
OUTPUT_EVERY_S = 300.0
"""Consul's check_update_interval."""
DEFAULT_PORTS = {"http": 80, "https": 443}

Key = tuple[str, str, str]
"""(project, node, id of the check)."""

log = logging.getLogger("nacre.discovery")


class Plan:
    """When the checks of one store are due, by this process's own clock."""

    def __init__(self) -> None:
        self.due_s: dict[Key, float] = {}
        self.asked: dict[Key, Row] = {}
        """What each check was when it was planned last."""
        self.running: dict[Key, asyncio.Task[None]] = {}
        self.written_s: dict[Key, float] = {}


_plans = PerStore(lambda _store: Plan())


def _key(row: Row) -> Key:
    return row["project_id"], row["node"], row["id"]


async def start_due(cloud: Cloud) -> None:
    """Begin the checks whose time has come. Those that are still under way are left to end."""
    plan = _plans.of(cloud.store)
    rows = {_key(row): row for row in cloud.store.read_now(checks.of_types, "http", "tcp")}
    known: dict[Key, Any]
    for known in (plan.due_s, plan.asked, plan.written_s):
        for key in known.keys() - rows.keys():
            del known[key]
    moment = boottime_s()
    for key, row in rows.items():
        if key not in plan.due_s:
            plan.due_s[key] = moment + random.uniform(0, STAGGER_S_MAX)  # noqa: S311 - spread, not a secret
        elif key in plan.asked and not _is_same(plan.asked[key], row):
            plan.due_s[key] = moment  # It was registered anew: what was planned was another check's.
        plan.asked[key] = row
    of_project = Counter(key[0] for key in plan.running)
    for key in sorted((key for key in rows if plan.due_s[key] <= moment and key not in plan.running), key=plan.due_s.__getitem__):
        if len(plan.running) >= AT_ONCE_MAX:
            return
        if of_project[key[0]] >= AT_ONCE_OF_PROJECT_MAX:
            continue
        of_project[key[0]] += 1
        plan.due_s[key] = moment + interval_s(rows[key])
        task = plan.running[key] = asyncio.create_task(_run(cloud, plan, key, rows[key]))
        task.add_done_callback(partial(_forget, plan, key))


def _is_same(before: Row, now: Row) -> bool:
    return bool(before["renewals"] == now["renewals"] and before["definition"] == now["definition"])


def _forget(plan: Plan, key: Key, task: "asyncio.Task[None]") -> None:
    plan.running.pop(key, None)


def interval_s(row: Row) -> float:
    return max(INTERVAL_NS_MIN, _nanoseconds(row, "Interval")) / 10**9


def timeout_s(row: Row) -> float:
    asked = _nanoseconds(row, "Timeout")
    return (min(asked, TIMEOUT_NS_MAX) if asked > 0 else TIMEOUT_NS_DEFAULT) / 10**9


def _nanoseconds(row: Row, field: str) -> int:
    text = row["definition"].get(field)
    return durations.nanoseconds(text, field) if text else 0


async def _run(cloud: Cloud, plan: Plan, key: Key, row: Row) -> None:
    try:
        found = await ask(cloud, row)
        if found is None:
            # It is asked as soon as its host is back, however long its interval.
            plan.due_s[key] = min(plan.due_s.get(key, 0.0), boottime_s() + PLAN_EVERY_S)
            return
        if not _is_news(plan, key, row, found):
            return
        await cloud.store.write(checks.record, [{**row, "status": found.status, "output": found.output}])
        plan.written_s[key] = boottime_s()
    except Exception:
        log.exception("check %s of project %s could not be run; it comes again", row["id"], row["project_id"])


def _is_news(plan: Plan, key: Key, row: Row, found: Probed) -> bool:
    if found.status != row["status"] or _cause(found.output) != _cause(row["output"]):
        return True
    return found.output != row["output"] and boottime_s() - plan.written_s.get(key, -OUTPUT_EVERY_S) >= OUTPUT_EVERY_S


def _cause(output: str) -> str:
    """What was found, without the words of the service itself."""
    return output.partition(OUTPUT)[0]


async def ask(cloud: Cloud, row: Row) -> Probed | None:
    """Have a check asked. None where nothing was learned of the service itself: its host is away, which the host's own check tells."""
    try:
        asked = probe_of(row)
    except (Invalid, ValueError) as error:
        return Probed("critical", str(error))
    target = cloud.store.read_now(find_target, row, asked.address)
    if target is None:
        return Probed("critical", f"{asked.address} is no address of this project's in any network: there is nobody to ask")
    network_id, host_id = target
    if host_id is None:
        return Probed("critical", f"{asked.address} is not on any host")
    if host_id not in cloud.hosts.connected():
        return None
    try:
        data = await cloud.hosts.dial(host_id, "check", network_id, msgspec.to_builtins(asked))
    except CloudError as error:
        log.debug("check %s was not asked: %s", row["id"], error)
        return None
    return msgspec.msgpack.decode(data, type=Probed)


def probe_of(row: Row) -> Probe:
    """What is to be asked. Raises Invalid and ValueError for what cannot be."""
    definition: dict[str, Any] = row["definition"]
    if row["type"] == "tcp":
        host, separator, port = definition["TCP"].rpartition(":")
        if not separator or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise Invalid(f"dial tcp: address {definition['TCP']}: HOST:PORT is needed")
        return Probe(kind="tcp", address=address_of(host.strip("[]")), port=int(port), timeout_s=timeout_s(row))
    parts = urlsplit(definition["HTTP"])
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise Invalid(f"unsupported protocol scheme or no host in {definition['HTTP']!r}")
    return Probe(
        kind="http",
        address=address_of(parts.hostname),
        port=parts.port or DEFAULT_PORTS[parts.scheme],
        timeout_s=timeout_s(row),
        url=definition["HTTP"],
        method=definition.get("Method") or "GET",
        headers=definition.get("Header") or {},
        body=definition.get("Body") or "",
        tls_skip_verify=bool(definition.get("TLSSkipVerify")),
    )


def address_of(host: str) -> str:
    """Raises Invalid for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise Invalid(f"dial tcp: lookup {host[:100]}: checks ask addresses, not names; write the service's address") from None


def find_target(conn: sa.Connection, row: Row, address: str) -> tuple[str, str | None] | None:
    """(network, host) of the project's port with the address. Where several networks have it, that of the check's own server counts."""
    own = sa.select(services.c.server_id).where(
        services.c.project_id == row["project_id"], services.c.node == row["node"], services.c.id == row["service_id"]
    )
    server_id = conn.execute(own).scalar()
    statement = (
        sa.select(ports.c.network_id, ports.c.host_id, ports.c.device_id)
        .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
        .where(ports.c.project_id == row["project_id"], fixed_ips.c.address == address)
        .where(ports.c.device_owner.not_like("network:%"))
        .order_by(ports.c.id)
    )
    found = conn.execute(statement).all()
    best = next((each for each in found if server_id is not None and each.device_id == server_id), found[0] if found else None)
    return None if best is None else (best.network_id, best.host_id)
