"""Servers: create, list, show, update, delete."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.compute import passwords, server_groups, servers, zones
from nacre.cloud.compute.specs import ServerSpec
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.network.servers import NetworkRequest
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.call import decode
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import allow, allowed, check_ranges, next_links, only, unexpected
from nacre.panes.openstack.compute.filters import query_of
from nacre.panes.openstack.compute.render import ServerView
from nacre.store import Page, Query

SLICE_ROWS = 100
"""Rows that are read and rendered before other requests have a turn."""
HOST_DETAILS = "os-extended-server-attributes"
_encode = msgspec.json.Encoder().encode


def names_of(conn: sa.Connection, ctx: Context) -> dict[str, str]:
    return zones.names(conn)


def name_of(conn: sa.Connection, ctx: Context, ident: str) -> dict[str, str]:
    return zones.name_of_server(conn, ident)


async def view_of(call: Call, ident: str | None = None) -> ServerView:
    """How this caller sees servers, or the one of them: then the names of thousands of hosts need not be read."""
    if not allowed(call, HOST_DETAILS):
        return ServerView(call)
    names = call.remember(names_of) if ident is None else call.remember(name_of, ident)
    return ServerView(call, names, call.cloud.hosts.alive())


def load(conn: sa.Connection, ctx: Context, ident: str) -> tuple[Row, list[Row]]:
    """A server, with the id of its `server_group` or None, and its ports."""
    row = servers.get(conn, ctx, ident)
    row = {**row, "server_group": server_groups.of_server(conn, [ident]).get(ident)}
    return row, servers.with_addresses(conn, [row]).get(ident, [])


def _load_slice(
    conn: sa.Connection, ctx: Context, query: Query, all_projects: bool, ports: bool
) -> tuple[Page, dict[str, list[Row]]]:
    page = servers.find(conn, ctx, query, all_projects=all_projects)
    return page, servers.with_addresses(conn, page.rows) if ports and page.rows else {}


async def _list(call: Call, *, detail: bool) -> Reply:
    """Slices of the page, each read, rendered and encoded on its own, so that a long list does not hold up others."""
    view = await view_of(call)
    host_ids = {name: ident for ident, name in (view.host_names or {}).items()}
    query, all_projects = query_of(call, host_ids)
    wanted = query.limit or 0
    marker, count, more = query.marker, 0, wanted > 0
    parts: list[bytes] = []
    last: list[Row] = []
    while more and count < wanted:
        part = replace(query, limit=min(SLICE_ROWS, wanted - count), marker=marker)
        page, ports = await call.read(_load_slice, part, all_projects, detail)
        if page.rows:
            if detail:
                shown = [view.detail(row, ports.get(row["id"], ()), groups=False) for row in page.rows]
            else:
                shown = [view.brief(row) for row in page.rows]
            parts.append(_encode(shown)[1:-1])
            last = page.rows[-1:]
            marker = last[0]["id"]
            count += len(page.rows)
        more = page.more
        await asyncio.sleep(0)
    following = next_links(call, Page(last, more))
    tail = b',"servers_links":' + _encode(following) if following else b""
    return Reply(b'{"servers":[' + b",".join(parts) + b"]" + tail + b"}")


async def index(call: Call) -> Reply:
    return await _list(call, detail=False)


async def detail(call: Call) -> Reply:
    return await _list(call, detail=True)


async def show(call: Call) -> Reply:
    view = await view_of(call, call.path["server_id"])
    row, ports = call.remember(load, call.path["server_id"])
    return Reply({"server": view.detail(row, ports)})


async def update(call: Call) -> Reply:
    sent = only(await call.body(dict[str, Any]), "server", schemas.ServerUpdate)
    check_ranges(call, sent, schemas.SERVER_UPDATE_RANGES)
    check_hostname(call, sent.hostname)
    values = {
        name: value
        for name in ("name", "description", "hostname", "access_ip_v4", "access_ip_v6", "disk_config")
        if (value := getattr(sent, name)) is not msgspec.UNSET
    }
    for name in ("access_ip_v4", "access_ip_v6"):
        if name in values:
            values[name] = values[name] or ""
    if sent.pinned_availability_zone is not msgspec.UNSET:
        values["pinned_zone"] = sent.pinned_availability_zone
    await call.write(servers.update, call.path["server_id"], values)
    view = await view_of(call)
    row, ports = await call.read(load, call.path["server_id"])
    return Reply({"server": view.changed(row, ports)})


async def delete(call: Call) -> Reply:
    await call.write(servers.delete, call.path["server_id"])
    return Reply(status=204)


async def create(call: Call) -> Reply:
    """One server, or several of the same make. Answers as soon as the intent is on disk."""
    sent, hints = _body(decode(await call.raw_body(), dict[str, Any]))
    spec, password = _spec(call, sent, hints), sent.admin_pass or passwords.generate()
    spec.password_hash = await asyncio.to_thread(passwords.hash_of, password, generated=not sent.admin_pass)
    try:
        made = await call.write(
            servers.create,
            spec,
            alive=call.cloud.hosts.alive(),
            ratios=call.cloud.settings.ratios,
            facts=call.cloud.hosts.facts,
            strategy=call.cloud.settings.strategy,
        )
    except NotFound as error:
        # What the body names and nobody can find is the body's fault: Nova answers 400.
        raise Invalid(error.message, field=error.field, code=error.code) from None
    if schemas.truth(sent.return_reservation_id):
        return Reply({"reservation_id": made[0]["reservation_id"]}, 202)
    ident = made[0]["id"]
    links = ServerView(call).links(ident)
    shown = {
        "id": ident,
        "links": links,
        "OS-DCF:diskConfig": spec.disk_config,
        "security_groups": [{"name": name} for name in spec.security_groups or ["default"]],
        "adminPass": password,
    }
    return Reply({"server": shown}, 202, {"Location": links[0]["href"]})


def _body(sent: dict[str, Any]) -> tuple[schemas.ServerCreate, dict[str, Any]]:
    """The server and the scheduler's hints, which lie beside it."""
    hints: dict[str, Any] = {}
    for name in ("os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"):
        if name in sent:
            hints = sent.pop(name)
            only({name: hints}, name, schemas.SchedulerHints)
    return only(sent, "server", schemas.ServerCreate), hints


def _spec(call: Call, sent: schemas.ServerCreate, hints: dict[str, Any]) -> ServerSpec:
    check_ranges(call, sent, schemas.SERVER_CREATE_RANGES)
    if sent.trusted_image_certificates not in (msgspec.UNSET, None):
        raise _refused("trusted_image_certificates", "Image certificates are not checked here.")
    low = schemas.number(sent.min_count or 1)
    high = schemas.number(sent.max_count or low)
    if not 1 <= low <= high <= schemas.SERVERS_PER_REQUEST_MAX:
        raise _refused("min_count", f"1 <= min_count <= max_count <= {schemas.SERVERS_PER_REQUEST_MAX} must hold.")
    check_hostname(call, sent.hostname)
    if isinstance(sent.hostname, str) and high > 1:
        raise _refused("hostname", "It cannot be set for several servers at once.")
    return ServerSpec(
        name=sent.name,
        image_id=_image_id(sent),
        flavor_id=str(sent.flavor_ref).rpartition("/")[2],
        networks=_networks(call, sent),
        security_groups=list(dict.fromkeys(group.name for group in sent.security_groups)),
        key_name=sent.key_name,
        metadata=sent.metadata,
        tags=sent.tags if isinstance(sent.tags, list) else [],
        user_data=sent.user_data,
        config_drive=schemas.truth(sent.config_drive),
        description=_description(call, sent),
        hostname=sent.hostname if isinstance(sent.hostname, str) else None,
        availability_zone=_zone(call, sent),
        scheduler_hints=hints,
        disk_config=sent.disk_config,
        access_ip_v4=sent.access_ip_v4,
        access_ip_v6=sent.access_ip_v6,
        files=files_of(sent.personality),
        min_count=low,
        max_count=high,
    )


def _refused(name: str, why: str) -> Invalid:
    return Invalid(f"Invalid input for field/attribute server.{name}. {why}", field=f"server.{name}")


def files_of(sent: list[schemas.PersonalityFile] | msgspec.UnsetType) -> list[dict[str, str]]:
    """The files to be injected, as a server keeps them."""
    return [{"path": file.path, "contents": file.contents} for file in sent] if isinstance(sent, list) else []


def _description(call: Call, sent: schemas.ServerCreate) -> str | None:
    """Before 2.19 a server's description was its name."""
    if not call.at_least(19):
        return sent.name
    return sent.description if isinstance(sent.description, str) else None


def check_hostname(call: Call, hostname: object, field: str = "server.hostname") -> None:
    """Raises Invalid for what is no host name (RFC 1123), or a fully qualified one before 2.94."""
    if isinstance(hostname, str):
        labels = hostname.split(".")
        if any(not label or len(label) > 63 or label[0] == "-" or label[-1] == "-" for label in labels):
            why = f"{hostname!r} is no host name (RFC 1123)."
        elif len(labels) > 1 and not call.at_least(94):
            why = "A fully qualified name needs version 2.94."
        else:
            return
        raise Invalid(f"Invalid input for field/attribute {field}. {why}", field=field)


def _image_id(sent: schemas.ServerCreate) -> str | None:
    """The image, from imageRef or from the one block device that says the same."""
    image = sent.image_ref.rpartition("/")[2] if isinstance(sent.image_ref, str) else ""
    if isinstance(sent.block_device_mapping, list) and sent.block_device_mapping:
        raise _refused("block_device_mapping", "Volumes are not served yet.")
    devices = sent.block_device_mapping_v2 if isinstance(sent.block_device_mapping_v2, list) else []
    for position, device in enumerate(devices):
        where = f"block_device_mapping_v2[{position}]"
        if position > 0 or device.source_type != "image" or device.destination_type != "local":
            raise _refused(where, "Volumes are not served yet: only the image's own local boot device may be named.")
        if str(device.boot_index) != "0":
            raise _refused(f"{where}.boot_index", "The image's own device is the one to boot from: 0.")
        if image and device.uuid != image:
            raise _refused(f"{where}.uuid", "It must be the image of imageRef.")
        image = image or device.uuid or ""
    return image or None


def _networks(call: Call, sent: schemas.ServerCreate) -> Any:
    asked = sent.networks
    if asked is msgspec.UNSET:
        if call.at_least(37):
            raise Invalid("Invalid input for field/attribute server. 'networks' is a required property.", field="server.networks")
        return None
    if isinstance(asked, str):
        if not call.at_least(37):
            raise _refused("networks", f"{asked!r} needs version 2.37.")
        return asked
    assert isinstance(asked, list)
    requests = []
    for position, network in enumerate(asked):
        where = f"networks[{position}]"
        if network.tag is not None and not (call.at_least(42) or 32 <= call.version.minor <= 36):
            raise unexpected("tag")
        if network.port is None and network.uuid is None:
            raise _refused(where, "It needs uuid or port.")
        if network.port is not None and network.fixed_ip is not None:
            raise _refused(f"{where}.fixed_ip", "A port brings its own addresses.")
        requests.append(
            NetworkRequest(
                network_id=None if network.port else network.uuid,
                port_id=network.port,
                fixed_ip=network.fixed_ip,
                tag=network.tag,
            )
        )
    ports = [request.port_id for request in requests if request.port_id]
    if len(set(ports)) != len(ports):
        raise _refused("networks", "A port is named twice.")
    return requests or None


def _zone(call: Call, sent: schemas.ServerCreate) -> str | None:
    """The zone, with the host that an admin names (as ZONE:HOST, or in a field of its own from 2.74 on)."""
    zone = sent.availability_zone
    named = [name for name in (sent.host, sent.hypervisor_hostname) if isinstance(name, str)]
    if zone and ":" in zone:
        allow(call, "servers:create:forced_host")
        if named:
            raise _refused("host", "availability_zone names a host already.")
    if not named:
        return zone
    allow(call, "servers:create:forced_host")
    if len(set(named)) > 1:
        raise _refused("hypervisor_hostname", "A host is its only hypervisor: the names must be the same.")
    return f"{zone or ''}:{named[0]}"
