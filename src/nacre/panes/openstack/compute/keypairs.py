"""Keypairs: imported, or generated and then shown once."""

import asyncio

from nacre.cloud.collection import Row
from nacre.cloud.compute import keypairs
from nacre.cloud.errors import Forbidden, Invalid
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.times import seconds
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import LIMIT_MAX, body_under, check_ranges, limit_of, unexpected, with_next
from nacre.store import Query

QUERY = frozenset({"user_id", "limit", "marker"})
STRICT_QUERY = 75


def _shown(call: Call, row: Row, *names: str) -> Row:
    shown = {name: row[name] for name in names}
    if call.at_least(2):
        shown["type"] = row["type"]
    return shown


def _owner(call: Call, named: str | None) -> str:
    """Whose keypairs: the caller's own, or (2.10, an admin) another user's."""
    own = call.context.user_id
    if named is None or named == own:
        return own
    if not call.context.is_admin:
        raise Forbidden(f"Policy doesn't allow {call.route.policy} to be performed.", code="PolicyNotAuthorized")
    return named


def _owner_in_query(call: Call) -> str:
    if call.at_least(STRICT_QUERY):
        for name in call.query:
            if name not in QUERY:
                raise unexpected(name)
    return _owner(call, call.query.get("user_id") if call.at_least(10) else None)


async def index(call: Call) -> Reply:
    owner = _owner_in_query(call)
    paged = call.at_least(35)
    query = Query(
        sort=(("name", "asc"),),
        limit=limit_of(call) if paged else LIMIT_MAX,
        marker=call.query.get("marker") if paged else None,
    )
    page = await call.read(keypairs.find, owner, query)
    body = {"keypairs": [{"keypair": _shown(call, row, "name", "public_key", "fingerprint")} for row in page.rows]}
    return Reply(with_next(call, body, "keypairs", page, "name") if paged else body)


async def show(call: Call) -> Reply:
    row = await call.read(keypairs.get, _owner_in_query(call), call.path["keypair_name"])
    shown = _shown(call, row, "name", "public_key", "fingerprint", "user_id")
    # Nova shows the row's number in its database. Ours have none: the first 31 bits of the fingerprint stand for it.
    number = int(row["fingerprint"].replace(":", "")[:8], 16) & schemas.INT32_MAX
    shown |= {"id": number, "deleted": False, "deleted_at": None, "updated_at": None, "created_at": seconds(row["created_at"])}
    return Reply({"keypair": shown})


async def create(call: Call) -> Reply:
    sent = await body_under(call, "keypair", schemas.KeypairCreate)
    check_ranges(call, sent, schemas.KEYPAIR_RANGES)
    kind = sent.type if isinstance(sent.type, str) else "ssh"
    owner = _owner(call, sent.user_id if isinstance(sent.user_id, str) else None)
    private = None
    if isinstance(sent.public_key, str):
        public = sent.public_key
    elif call.at_least(92):
        raise Invalid("Invalid input for field/attribute keypair. 'public_key' is a required property.", field="public_key")
    else:
        public, private = await (
            asyncio.to_thread(keypairs.generate_x509, owner) if kind == "x509" else asyncio.to_thread(keypairs.generate)
        )
    row = await call.write(keypairs.create, owner, sent.name, public, kind)
    shown = _shown(call, row, "name", "public_key", "fingerprint", "user_id")
    if private is not None:
        shown["private_key"] = private
    return Reply({"keypair": shown}, 201 if call.at_least(2) else 200)


async def delete(call: Call) -> Reply:
    await call.write(keypairs.delete, _owner_in_query(call), call.path["keypair_name"])
    return Reply(status=204 if call.at_least(2) else 202)
