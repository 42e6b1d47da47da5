"""A guest becomes an image: what it changed is one layer more on top of its image's (docker commit, createImage)."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from nacre.cloud.core import Cloud, GuestStream
from nacre.cloud.errors import Conflict
from nacre.cloud.image import contents, manifests
from nacre.cloud.image.layered import Layer
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import images
from nacre.protocol.streams import Channel


async def base_of(cloud: Cloud, image: Row) -> tuple[dict[str, Any], list[Layer]]:
    """The config (a copy) and the layers of a server's image (as its row keeps it); of one in layers also when it is gone meanwhile."""
    if image.get("layers"):
        config = json.loads(json.dumps(image["config"]))
        diff_ids = config["rootfs"]["diff_ids"]
        kinds = (manifests.OCI_LAYER, manifests.OCI_LAYER_GZIP)
        return config, [
            Layer(layer["digest"], layer["size_bytes"], kinds[layer["digest"] != diff_id], diff_id)
            for layer, diff_id in zip(image["layers"], diff_ids, strict=True)
        ]
    row = cloud.store.read_now(_row, image["id"])
    if row is None:
        raise Conflict(f"the image {image['id']} from which the container was made is gone")
    content = await contents.of_image(cloud, row)
    return json.loads(json.dumps(content.config)), list(content.layers)


def _row(conn: sa.Connection, image_id: str) -> Row | None:
    row = conn.execute(sa.select(images).where(images.c.id == image_id)).mappings().first()
    return None if row is None else dict(row)


def note(config: Row, diff_id: str, created_by: str, comment: str, author: str) -> None:
    """The config has one layer more, and a line of history about it."""
    created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    config["created"] = created
    config.setdefault("rootfs", {"type": "layers", "diff_ids": []})["diff_ids"].append(diff_id)
    line = {"created": created, "created_by": created_by, "comment": comment, "author": author}
    config.setdefault("history", []).append({name: text for name, text in line.items() if text})
    if author:
        config["author"] = author


async def layer_of(stream: GuestStream) -> AsyncIterator[bytes]:
    """The bytes of the layer that a `commit` brings; the stream is closed at its end, whatever comes."""
    try:
        async for channel, payload in stream:
            if channel is Channel.STDOUT:
                yield payload
    finally:
        await stream.close()
