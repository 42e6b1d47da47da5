"""Rows as Image shows them: unwrapped, with the properties beside the attributes."""

from typing import Any

from nacre.cloud.image.rules import Row
from nacre.panes.edge.times import seconds

SHOWN = (
    *("id", "name", "status", "visibility", "owner", "container_format", "disk_format", "size", "virtual_size", "checksum"),
    *("os_hash_algo", "os_hash_value", "min_disk", "min_ram", "protected", "os_hidden", "tags"),
)


def image(row: Row) -> dict[str, Any]:
    path = f"/v2/images/{row['id']}"
    return {
        **row["properties"],
        **{name: row[name] for name in SHOWN},
        "created_at": seconds(row["created_at"]),
        "updated_at": seconds(row["updated_at"]),
        "self": path,
        "file": f"{path}/file",
        "schema": "/v2/schemas/image",
    }


def member(row: Row) -> dict[str, Any]:
    return {
        "image_id": row["image_id"],
        "member_id": row["member_id"],
        "status": row["status"],
        "created_at": seconds(row["created_at"]),
        "updated_at": seconds(row["updated_at"]),
        "schema": "/v2/schemas/member",
    }
