"""Projects' own calls: showing the tree around one, and tags."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.identity import projects, trees
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.call import convert
from nacre.panes.openstack.identity.dialect import DIALECT, members
from nacre.panes.openstack.identity.resources import PROJECTS, Tag


async def show(call: Call) -> Reply:
    ident = call.path["project_id"]
    shown = DIALECT.one(call, PROJECTS, await call.read(projects.get, ident))
    for name, find in (("parents", trees.ancestors), ("subtree", trees.descendants)):
        if f"{name}_as_list" in call.query:
            found = await call.read(_around, find, ident)
            shown[name] = [{"project": DIALECT.one(call, PROJECTS, row)} for row in found if row["id"] != ident]
        elif f"{name}_as_ids" in call.query:
            shown[name] = await call.read(_parents_tree if name == "parents" else _subtree, ident)
    return Reply({"project": shown})


def _around(conn: sa.Connection, ctx: Context, find: Callable[[sa.Connection, str], list[str]], ident: str) -> list[Row]:
    return projects.rows_of(conn, ctx, find(conn, ident))


def _parents_tree(conn: sa.Connection, ctx: Context, ident: str) -> Any:
    """{parent: {its parent: null}}."""
    tree: Any = None
    for parent in reversed(trees.ancestors(conn, ident)[1:]):
        tree = {parent: tree}
    return tree


def _subtree(conn: sa.Connection, ctx: Context, ident: str) -> Any:
    """{child: {its child: null}}."""
    below = projects.rows_of(conn, ctx, trees.descendants(conn, ident))
    nodes: dict[str, Any] = {ident: {}, **{row["id"]: {} for row in below}}
    for row in below:
        nodes[row["parent_id"]][row["id"]] = nodes[row["id"]]
    for children in nodes.values():
        for child, grandchildren in children.items():
            children[child] = grandchildren or None
    return nodes[ident] or None


Tags = Annotated[list[Tag], msgspec.Meta(max_length=projects.TAGS_MAX)]


async def list_tags(call: Call) -> Reply:
    row = await call.read(projects.get, call.path["project_id"])
    return Reply({"tags": projects.tags_of(row), "links": members(call)})


async def replace_tags(call: Call) -> Reply:
    tags = convert((await call.body(dict[str, Any])).get("tags"), Tags)
    row = await call.write(projects.set_tags, call.path["project_id"], tags)
    return Reply({"tags": projects.tags_of(row), "links": members(call)})


async def clear_tags(call: Call) -> Reply:
    await call.write(projects.set_tags, call.path["project_id"], [])
    return Reply(status=204)


async def add_tag(call: Call) -> Reply:
    ident, tag = call.path["project_id"], call.path["tag"]
    await call.write(projects.add_tag, ident, tag)
    return Reply(status=201, headers={"Location": f"{call.base_url}/v3/projects/{ident}/tags/{tag}"})


async def check_tag(call: Call) -> Reply:
    await call.read(projects.has_tag, call.path["project_id"], call.path["tag"])
    return Reply(status=204)


async def remove_tag(call: Call) -> Reply:
    await call.write(projects.remove_tag, call.path["project_id"], call.path["tag"])
    return Reply(status=204)


_TAGS = "/v3/projects/{project_id}/tags"
ROUTES: tuple[Route, ...] = (
    Route("GET", "/v3/projects/{project_id}", show, "identity:get_project", "Show a project"),
    Route("GET", _TAGS, list_tags, "identity:list_project_tags", "List a project's tags"),
    Route("PUT", _TAGS, replace_tags, "identity:update_project_tags", "Replace a project's tags"),
    Route("DELETE", _TAGS, clear_tags, "identity:delete_project_tags", "Remove all of a project's tags"),
    Route("GET", _TAGS + "/{tag}", check_tag, "identity:get_project_tag", "Check that a project bears a tag"),
    Route("HEAD", _TAGS + "/{tag}", check_tag, "identity:get_project_tag", "Check that a project bears a tag"),
    Route("PUT", _TAGS + "/{tag}", add_tag, "identity:create_project_tag", "Add a tag to a project"),
    Route("DELETE", _TAGS + "/{tag}", remove_tag, "identity:delete_project_tag", "Remove a tag from a project"),
)
