"""Image's part of the audit: the bytes that lie in the store against the rows that name them, each way."""

import asyncio
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.core import Cloud
from nacre.cloud.image.tables import image_layers, image_manifests, images, left_blobs, manifest_blobs, registry_blobs
from nacre.store import elements
from nacre.store.blobs import DIGEST

Found = tuple[str, str, str]
"""(kind, id, problem)."""


async def findings(cloud: Cloud) -> list[Found]:
    """What lies there for nobody, and what a row names and is not there, or is not as long as it says."""
    held = await asyncio.to_thread(_held, cloud)
    needed = cloud.store.read_now(_needed)
    lacking = {digest: problem for digest, problem in _lacking(held, needed) if cloud.store.read_now(_needed).get(digest)}
    # In this order: what is written just now, by whatever process, is pinned until its row is there.
    pinned = cloud.blobs.pinned()
    names = cloud.store.read_now(named)
    left = [digest for digest in sorted(held.keys() - names - pinned) if cloud.blobs.path(digest).exists()]
    found = [("blob", digest, f"{held[digest]} bytes that no row names") for digest in left]
    return found + [("blob", digest, problem) for digest, problem in sorted(lacking.items())]


def _held(cloud: Cloud) -> dict[str, int]:
    """digest -> size in bytes of what lies there."""
    found = {}
    for digest in cloud.blobs.digests():
        try:
            found[digest] = cloud.blobs.path(digest).stat().st_size
        except (FileNotFoundError, ValueError):
            continue  # It went meanwhile, or is no blob.
    return found


def _lacking(held: dict[str, int], needed: dict[str, tuple[str, int | None]]) -> Iterator[tuple[str, str]]:
    for digest, (by, size) in needed.items():
        if digest not in held:
            yield digest, f"{by} names it, and it is not there"
        elif size is not None and held[digest] != size:
            yield digest, f"is {held[digest]} bytes long, and {by} says {size}"


def _needed(conn: sa.Connection) -> dict[str, tuple[str, int | None]]:
    """digest -> (who needs the bytes, how many they are where that is known)."""
    found: dict[str, tuple[str, int | None]] = {}
    of_images = sa.select(images.c.id, images.c.digest, images.c.size, images.c.staged).where(images.c.digest.is_not(None))
    for ident, digest, size, staged in conn.execute(of_images):
        found[digest] = (f"image {ident}", size if staged is None else staged.get("size"))
    layered = images.c.id.in_(sa.select(image_layers.c.image_id))
    for ident, *digests in conn.execute(sa.select(images.c.id, images.c.docker_id, images.c.manifest_digest).where(layered)):
        found |= {digest: (f"image {ident}", None) for digest in digests if digest}
    for what, name, table in (
        ("a layer of image", image_layers.c.image_id, image_layers),
        ("a manifest of", image_manifests.c.repository, image_manifests),
        ("the registry's", registry_blobs.c.repository, registry_blobs),
    ):
        for which, digest, size in conn.execute(sa.select(name, table.c.digest, table.c.size)):
            found[digest] = (f"{what} {which}", size)
    return found


def named(conn: sa.Connection) -> frozenset[str]:
    """Every digest that a row names, whether it needs the bytes (`_needed`) or could still use them: a server's host may fetch them again,
    and a manifest may name what was never brought."""
    of_servers = [_layers(servers.c.image, "layers"), _layers(servers.c.rescue, "image", "layers")]
    kept = (servers.c.image["digest"].as_string(), servers.c.rescue["image"]["digest"].as_string(), left_blobs.c.digest)
    columns = (images.c.docker_id, images.c.manifest_digest, manifest_blobs.c.digest, *kept)
    found = {
        digest for query in (*of_servers, *(sa.select(column) for column in columns)) for digest in conn.execute(query).scalars()
    }
    return frozenset(digest for digest in {*found, *_needed(conn)} if digest and DIGEST.fullmatch(digest))


def _layers(column: sa.Column[Any], *place: str) -> sa.Select[tuple[str]]:
    each = elements(column, *place)
    return sa.select(each.c.value["digest"].as_string()).select_from(sa.join(servers, each, sa.true()))
