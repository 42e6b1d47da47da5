"""Consoles: who has a token may type into a server's terminal, for a while.

https://docs.openstack.org/api-ref/compute/#server-consoles-servers-remote-consoles-os-console-auth-tokens
"""

import hashlib
import secrets
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.servers import get
from nacre.cloud.compute.tables import console_tokens, servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, NotFound
from nacre.store.schema import now

Row = dict[str, Any]

TOKEN_S = 600.0
"""How long a token opens the console, as Nova has it (consoleauth.token_ttl)."""
OF_SERVER_MAX = 64
"""Tokens of one server; a further one takes the place of the oldest."""


def create(conn: sa.Connection, ctx: Context, ident: str, console_type: str) -> str:
    """A token for the console of a server. Raises NotFound, Conflict where it is on no host yet."""
    row = get(conn, ctx, ident)
    if row["host_id"] is None or row["observed_state"] is None or row["gone"]:
        raise Conflict(f"Instance {ident} is not ready", code="InstanceNotReady")
    token, moment = secrets.token_urlsafe(32), now()
    conn.execute(console_tokens.delete().where(console_tokens.c.expires_at < moment))
    mine = console_tokens.c.server_id == ident
    newest = sa.select(console_tokens.c.token_hash).where(mine).order_by(console_tokens.c.expires_at.desc())
    conn.execute(console_tokens.delete().where(mine, console_tokens.c.token_hash.not_in(newest.limit(OF_SERVER_MAX - 1))))
    known = {"server_id": ident, "console_type": console_type, "expires_at": moment + TOKEN_S}
    conn.execute(console_tokens.insert().values(token_hash=_hash(token), **known))
    return token


def opened_by(conn: sa.Connection, token: str) -> Row:
    """The server whose console the token opens, with its `console_type`. Raises NotFound, also for a token that is too old."""
    statement = (
        sa.select(servers, console_tokens.c.console_type)
        .join(console_tokens, console_tokens.c.server_id == servers.c.id)
        .where(console_tokens.c.token_hash == _hash(token), console_tokens.c.expires_at >= now())
    )
    row = conn.execute(statement).mappings().first()
    if row is None:
        raise NotFound("Token not found", code="TokenNotFound")
    return dict(row)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
