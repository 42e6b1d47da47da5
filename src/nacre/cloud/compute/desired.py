"""What a server is to its host: rows to the protocol's `Guest`."""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.compute.fencing import is_fenced
from nacre.cloud.compute.migrations import COMING, LIVE, open_among
from nacre.cloud.compute.servers import user_data_of
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers.limits import FLAVOR, limits_of
from nacre.cloud.containers.tables import containers
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import servers as network
from nacre.protocol.containers import Container
from nacre.protocol.guests import Guest, ImageRef, InjectedFile, InstanceData, Layer, Limits, Origin, Rescue
from nacre.store import Prepared, among

_WANTED = Prepared(sa.select(servers).where(servers.c.gone.is_(False), among(servers.c.id)))
_RUNTIMES = Prepared(sa.select(hosts.c.runtimes).where(hosts.c.id == sa.bindparam("host")))
_CONTAINERS = Prepared(
    sa.select(containers.c.server_id, containers.c.spec, containers.c.host_config, containers.c.halt, containers.c.labels).where(
        among(containers.c.server_id)
    )
)


_POWER: dict[str, Any] = {"suspended": "paused", "shelved": "stopped"}
"""A suspended guest is a frozen one: its memory stays where it is. One that is being shelved stops, and becomes an image."""


def compile_guests(conn: sa.Connection, host_id: str, ids: Sequence[str]) -> dict[str, Guest]:
    """The guests that must be on the host; one whose intent is `gone` is left out. So is one that goes back to the host from which it came;
    what moved away is kept as it is, until it is known that it stays away."""
    rows = _WANTED.rows(conn, ids=list(ids))
    moves = open_among(conn, [row["id"] for row in rows])
    copies = [row for row in rows if row["host_id"] != host_id and moves.get(row["id"], {}).get("source_host_id") == host_id]
    rows = [row for row in rows if row["host_id"] == host_id and not _goes_back(row, moves.get(row["id"]))] + copies
    here = [row["id"] for row in rows if row["host_id"] == host_id]
    ports = network.ports_of(conn, here)
    runtimes = _RUNTIMES.scalar(conn, host=host_id) or []
    runtime = "simulated" if "simulated" in runtimes else "container"
    kept = {each["server_id"]: each for each in _CONTAINERS.rows(conn, ids=[row["id"] for row in rows])}
    guests = {row["id"]: _guest(row, ports.get(row["id"], []), runtime, kept.get(row["id"])) for row in rows}
    for ident, guest in guests.items():
        move = moves.get(ident)
        if ident not in here:
            live = move is not None and move["migration_type"] == LIVE
            guests[ident] = msgspec.structs.replace(guest, power="checkpointed" if live else "stopped")
        elif move is not None and move["status"] in COMING:
            guests[ident] = msgspec.structs.replace(
                guest, origin=Origin(move["uuid"], live=move["migration_type"] == LIVE), fenced=True
            )
    return guests


def _goes_back(row: dict[str, Any], move: dict[str, Any] | None) -> bool:
    return move is not None and move["status"] == "reverting" and move["dest_host_id"] == row["host_id"]


def _container(kept: dict[str, Any]) -> Container:
    """With the way of the stop that was asked for, where it is not the usual one."""
    container = msgspec.convert(kept["spec"], Container)
    halt = kept["halt"]
    if halt is None:
        return container
    return msgspec.structs.replace(
        container,
        stop_signal=halt["signal"] or container.stop_signal,
        stop_timeout_s=container.stop_timeout_s if halt["timeout_s"] is None else halt["timeout_s"],
    )


def _limits(flavor: dict[str, Any], kept: dict[str, Any] | None) -> Limits:
    """Docker's to the byte, unless Nova gave it another size since."""
    disk_gb = flavor["disk_gb"] + flavor["ephemeral_gb"]
    if kept is not None and flavor["id"] == FLAVOR:
        return limits_of(kept["host_config"], flavor, disk_gb)
    return Limits(
        vcpus=flavor["vcpus"],
        memory_mb=flavor["memory_mb"],
        disk_gb=disk_gb,
        swap_mb=flavor["swap_mb"],
        extra_specs={name: str(value) for name, value in flavor["extra_specs"].items()},
    )


def _image(image: dict[str, Any]) -> ImageRef:
    return ImageRef(
        id=image["id"],
        digest=image["digest"],
        size_bytes=image["size"],
        disk_format=image["disk_format"],
        container_format=image["container_format"],
        properties=image["properties"],
        layers=tuple(Layer(layer["digest"], layer["size_bytes"]) for layer in image.get("layers") or ()),
        config=image.get("config") or {},
    )


def _guest(row: dict[str, Any], ports: list[str], runtime: Any, kept: dict[str, Any] | None) -> Guest:
    flavor = row["flavor"]
    return Guest(
        id=row["id"],
        runtime=runtime,
        generation=row["generation"],
        power=_POWER.get(row["power"], row["power"]),
        boots=row["boots"],
        rebuilds=row["rebuilds"],
        image=_image(row["image"]),
        limits=_limits(flavor, kept),
        container=None if kept is None else _container(kept),
        instance=InstanceData(
            name=row["name"],
            hostname=row["hostname"],
            project_id=row["project_id"],
            availability_zone=row["availability_zone"],
            launch_index=row["launch_index"],
            public_keys={row["key_name"]: row["public_key"]} if row["public_key"] else {},
            meta=row["metadata"],
            user_data=user_data_of(row),
            instance_type=flavor["name"],
            reservation_id=row["reservation_id"],
        ),
        ports=tuple(ports),
        reboot=row["reboot"],
        password_hash=row["password_hash"],
        files=tuple(InjectedFile(file["path"], base64.b64decode(file["contents"])) for file in row["files"]),
        config_drive=row["config_drive"],
        rescue=None if row["rescue"] is None else Rescue(_image(row["rescue"]["image"]), row["rescue"]["password_hash"]),
        fenced=is_fenced(row, kept),
        request_id=row["request_id"],
    )
