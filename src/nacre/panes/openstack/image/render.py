"""Rows as Image shows them: unwrapped, with the properties beside the attributes."""

from typing import Any
from urllib.parse import urlencode

from nacre.cloud.image.rules import Row
from nacre.panes.edge.times import seconds

SHOWN = (
    *("id", "name", "status", "visibility", "owner", "container_format", "disk_format", "size", "virtual_size", "checksum"),
    *("os_hash_algo", "os_hash_value", "min_disk", "min_ram", "protected", "os_hidden", "tags"),
)


STORE = "nacre"
"""The store that there is; what an image says of it is Glance's way for several."""
IN_STORE = ("active", "deactivated")


def link(path: str, parameters: list[tuple[str, str]]) -> str:
    return path + (f"?{urlencode(parameters)}" if parameters else "")


def _stores(row: Row) -> dict[str, str]:
    """Where the data is, and how an import stands; what Glance says of imports stays when they have ended."""
    status, result = row["status"], row["import_result"]
    shown = {"stores": STORE} if status in IN_STORE else {}
    if status == "importing" or result:
        shown["os_glance_importing_to_stores"] = STORE if status == "importing" else ""
        shown["os_glance_failed_import"] = STORE if result == "failure" and status not in IN_STORE else ""
    return shown


def image(row: Row) -> dict[str, Any]:
    path = f"/v2/images/{row['id']}"
    return {
        **row["properties"],
        **{name: row[name] for name in SHOWN},
        **_stores(row),
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
