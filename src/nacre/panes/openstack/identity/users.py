"""Users' own calls: create and update (passwords are hashed on the way), passwords, groups, projects."""

from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context, internal
from nacre.cloud.errors import Invalid
from nacre.cloud.identity import assignments, authentication, compliance, groups, projects, users
from nacre.cloud.identity.authentication import Reference
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.call import convert
from nacre.panes.edge.resource import envelope
from nacre.panes.openstack.identity.dialect import DIALECT, identity_of, members
from nacre.panes.openstack.identity.resources import GROUPS, PROJECTS, USERS


async def _with_hash(call: Call, values: Row) -> Row:
    """The password gives way to its hash; null takes the password away. Raises Invalid for one that is too weak."""
    if "password" in values:
        password = values.pop("password")
        if password is not None:
            identity_of(call).security.check_strength(password)
        values["password_hash"] = None if password is None else await identity_of(call).passwords.hash(password)
    return values


async def create(call: Call) -> Reply:
    sent = envelope(await call.body(dict[str, Any]), "user")
    values = await _with_hash(call, USERS.values(DIALECT, call, sent, "create"))
    row = await call.write(users.create, values, identity_of(call).security)
    return Reply({"user": DIALECT.one(call, USERS, row)}, 201)


async def update(call: Call) -> Reply:
    sent = envelope(await call.body(dict[str, Any]), "user")
    values = await _with_hash(call, USERS.values(DIALECT, call, sent, "update"))
    row = await call.write(users.update, call.path["user_id"], values, identity_of(call).security)
    return Reply({"user": DIALECT.one(call, USERS, row)})


class PasswordChange(msgspec.Struct):
    password: str
    original_password: str


async def change_password(call: Call) -> Reply:
    """No token is needed: the present password is the proof, so that an expired one can be changed too."""
    change = convert(envelope(await call.body(dict[str, Any]), "user"), PasswordChange)
    identity, store, reference = identity_of(call), call.cloud.store, Reference(id=call.path["user_id"])
    user = await authentication.check_password(store, identity, reference, change.original_password)
    if change.password == change.original_password:
        raise Invalid("The new password must differ from the original one.", field="password")
    identity.security.check_strength(change.password)
    for hashed in store.read_now(compliance.former, identity.security, user):
        if await identity.passwords.verify(change.password, hashed):
            count = identity.security.unique_last_password_count
            raise Invalid(f"The new password must differ from the last {count} ones.", field="password")
    hashed = await identity.passwords.hash(change.password)
    await store.write(users.set_password, internal(call.request_id), user["id"], hashed, identity.security)
    return Reply(status=204)


async def list_members(call: Call) -> Reply:
    query = DIALECT.query(call, USERS)
    page = await call.read(groups.find_members, call.path["group_id"], query)
    return Reply(DIALECT.many(call, USERS, page, query))


async def list_groups(call: Call) -> Reply:
    query = DIALECT.query(call, GROUPS)
    page = await call.read(groups.find_of_user, call.path["user_id"], query)
    return Reply(DIALECT.many(call, GROUPS, page, query))


async def add_member(call: Call) -> Reply:
    await call.write(groups.add_user, call.path["group_id"], call.path["user_id"])
    return Reply(status=204)


async def check_member(call: Call) -> Reply:
    await call.read(groups.check_user, call.path["group_id"], call.path["user_id"])
    return Reply(status=204)


async def remove_member(call: Call) -> Reply:
    await call.write(groups.remove_user, call.path["group_id"], call.path["user_id"])
    return Reply(status=204)


async def list_projects(call: Call) -> Reply:
    user_id = call.path["user_id"]

    def find(conn: sa.Connection, ctx: Context) -> list[Row]:
        users.operations.get(conn, ctx, user_id)
        return projects.rows_of(conn, ctx, assignments.projects_of(conn, user_id))

    rows = await call.read(find)
    return Reply({"projects": [DIALECT.one(call, PROJECTS, row) for row in rows], "links": members(call)})


_MEMBER = "/v3/groups/{group_id}/users/{user_id}"
ROUTES: tuple[Route, ...] = (
    Route("POST", "/v3/users", create, "identity:create_user", "Create a user"),
    Route("PATCH", "/v3/users/{user_id}", update, "identity:update_user", "Update a user"),
    Route("POST", "/v3/users/{user_id}/password", change_password, None, "Change one's own password"),
    Route("GET", "/v3/users/{user_id}/groups", list_groups, "identity:list_groups_for_user", "List the groups of a user"),
    Route("GET", "/v3/users/{user_id}/projects", list_projects, "identity:list_user_projects", "List the projects of a user"),
    Route("GET", "/v3/groups/{group_id}/users", list_members, "identity:list_users_in_group", "List the users of a group"),
    Route("PUT", _MEMBER, add_member, "identity:add_user_to_group", "Add a user to a group"),
    Route("GET", _MEMBER, check_member, "identity:check_user_in_group", "Check that a user is in a group"),
    Route("HEAD", _MEMBER, check_member, "identity:check_user_in_group", "Check that a user is in a group"),
    Route("DELETE", _MEMBER, remove_member, "identity:remove_user_from_group", "Remove a user from a group"),
)
