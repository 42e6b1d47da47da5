"""Tags of all resources."""

from msgspec import Struct

from nacre.cloud.network import tags
from nacre.panes.edge import Call, Reply, Route


class _Tags(Struct, forbid_unknown_fields=True):
    tags: list[str]


def _routes(collection: str) -> tuple[Route, ...]:
    async def get(call: Call) -> Reply:
        return Reply({"tags": await call.read(tags.get, collection, call.path["resource_id"])})

    async def has(call: Call) -> Reply:
        await call.read(tags.has, collection, call.path["resource_id"], call.path["tag"])
        return Reply(status=204)

    async def replace(call: Call) -> Reply:
        sent = await call.body(_Tags)
        return Reply({"tags": await call.write(tags.replace, collection, call.path["resource_id"], sent.tags)})

    async def add(call: Call) -> Reply:
        await call.write(tags.add, collection, call.path["resource_id"], call.path["tag"])
        return Reply(status=201)

    async def remove(call: Call) -> Reply:
        await call.write(tags.remove, collection, call.path["resource_id"], call.path["tag"])
        return Reply(status=204)

    async def clear(call: Call) -> Reply:
        await call.write(tags.clear, collection, call.path["resource_id"])
        return Reply(status=204)

    stem = f"/v2.0/{collection}/{{resource_id}}/tags"
    read, write = "network:get_tags", "network:update_tags"
    return (
        Route("GET", stem, get, read, f"List the tags of one of {collection}"),
        Route("PUT", stem, replace, write, f"Replace the tags of one of {collection}"),
        Route("DELETE", stem, clear, write, f"Remove all tags of one of {collection}"),
        Route("GET", f"{stem}/{{tag}}", has, read, f"Confirm a tag of one of {collection}"),
        Route("PUT", f"{stem}/{{tag}}", add, write, f"Add a tag to one of {collection}"),
        Route("DELETE", f"{stem}/{{tag}}", remove, write, f"Remove a tag of one of {collection}"),
    )


ROUTES: tuple[Route, ...] = tuple(route for collection in tags.TAGGED for route in _routes(collection))
