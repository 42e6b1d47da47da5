"""The operator's hosts: their books, labels and facts; tokens by which others join; cordon and removal."""

from typing import Annotated, Any

import sqlalchemy as sa
from msgspec import Meta, Struct

from nacre.cloud import draining
from nacre.cloud.context import Context
from nacre.cloud.hosts import joining, labels, liveness
from nacre.cloud.hosts.tables import hosts
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.times import seconds

SHOWN = (
    *("id", "hostname", "enabled", "disabled_reason", "availability_zone", "hypervisor_type", "tunnel_ip"),
    *("enrolled", "acceptance", "acceptance_cause", "external", "lost", "underlay_mtu", "guests", "labels"),
)
BOOK = ("vcpus", "memory_mb", "disk_gb", "claimed_vcpus", "claimed_memory_mb", "claimed_disk_gb", "created_at", "updated_at")
"""What one host's view has beyond that."""


class NewToken(Struct, forbid_unknown_fields=True):
    """A token that so many hosts may use, together and once, within `ttl_s` seconds."""

    hosts: Annotated[int, Meta(ge=1, le=joining.HOSTS_MAX)] = 1
    ttl_s: Annotated[int, Meta(ge=joining.TTL_S_MIN, le=joining.TTL_S_MAX)] = 3600


class Cordon(Struct, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=255)] | None = None


def _rows(conn: sa.Connection, ctx: Context) -> list[dict[str, Any]]:
    columns = [hosts.c[name] for name in SHOWN]
    return [dict(row) for row in conn.execute(sa.select(*columns).order_by(hosts.c.hostname)).mappings()]


async def list_hosts(call: Call) -> Reply:
    alive = call.cloud.hosts.alive()
    shown = [{**row, "alive": row["id"] in alive} for row in await call.read(_rows)]
    return Reply({"hosts": shown, "warning": liveness.warning(call.cloud)})


async def list_facts(call: Call) -> Reply:
    """Of every host, or of the one that `host` names by id or name."""
    wanted = call.query.get("host")
    rows = await call.read(_rows) if wanted is None else [await call.read(lambda conn, ctx: labels.find(conn, wanted))]
    facts = call.cloud.hosts.facts
    return Reply({"hosts": [{"id": row["id"], "hostname": row["hostname"], "facts": facts(row["id"])} for row in rows]})


async def change_labels(call: Call) -> Reply:
    """The body is NAME: value, with null for a label that is to go."""
    changes = await call.body(dict[str, str | None])
    return Reply({"labels": await call.write(labels.change, call.path["host"], changes)})


async def show_host(call: Call) -> Reply:
    row = await call.read(lambda conn, ctx: labels.find(conn, call.path["host"]))
    return Reply({"host": {**_one(call, row), "drain": await _drain(call, row["id"])}})


def _one(call: Call, row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in (*SHOWN, *BOOK)}
    shown |= {name: seconds(row[name]) for name in ("created_at", "updated_at")}
    return {**shown, "alive": row["id"] in call.cloud.hosts.alive(), "connected": row["id"] in call.cloud.hosts.connected()}


async def create_token(call: Call) -> Reply:
    wanted = await call.body(NewToken)
    issued = await call.write(joining.issue, wanted.hosts, wanted.ttl_s)
    token = f"{issued['secret']}.{call.cloud.identity.authority.fingerprint}"
    return Reply({"token": token, "hosts": issued["hosts"], "expires_at": seconds(issued["expires_at"])}, 201)


async def cordon(call: Call) -> Reply:
    wanted = await call.body(Cordon)
    row = await call.write(lambda conn, ctx: joining.cordon(conn, ctx, call.path["host"], cordoned=True, reason=wanted.reason))
    return Reply({"host": _one(call, row)})


async def uncordon(call: Call) -> Reply:
    row = await call.write(draining.stop, call.path["host"])
    return Reply({"host": _one(call, row)})


async def drain(call: Call) -> Reply:
    """Cordon the host, and have its servers go elsewhere. `drain` of the host's view says how far that is."""
    wanted = await call.body(Cordon)
    row = await call.write(draining.start, call.path["host"], wanted.reason)
    return Reply({"host": {**_one(call, row), "drain": await _drain(call, row["id"])}}, 202)


async def _drain(call: Call, host_id: str) -> dict[str, Any] | None:
    found = await call.read(lambda conn, ctx: draining.progress(conn, host_id))
    return found and {**found, **{name: found[name] and seconds(found[name]) for name in ("started_at", "finished_at")}}


async def remove(call: Call) -> Reply:
    await call.write(joining.remove, call.path["host"], call.cloud.hosts.connected())
    return Reply(status=204)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/nacre/v1/hosts", list_hosts, "nacre:hosts", "List hosts with their labels"),
    Route("POST", "/nacre/v1/host-tokens", create_token, "nacre:join_hosts", "Make a token by which a host may join, once"),
    Route("GET", "/nacre/v1/hosts/{host}", show_host, "nacre:hosts", "Show a host"),
    Route(
        "DELETE",
        "/nacre/v1/hosts/{host}",
        remove,
        "nacre:join_hosts",
        "Remove a host that carries nothing, and revoke its certificate",
    ),
    Route("PUT", "/nacre/v1/hosts/{host}/cordon", cordon, "nacre:cordon_hosts", "Give a host no more work"),
    Route("DELETE", "/nacre/v1/hosts/{host}/cordon", uncordon, "nacre:cordon_hosts", "Give a host work again"),
    Route("PUT", "/nacre/v1/hosts/{host}/drain", drain, "nacre:cordon_hosts", "Have a host's servers go elsewhere"),
    Route("PATCH", "/nacre/v1/hosts/{host}/labels", change_labels, "nacre:label_hosts", "Change a host's labels"),
    Route("GET", "/nacre/v1/facts", list_facts, "nacre:facts", "Show the facts of hosts"),
)
