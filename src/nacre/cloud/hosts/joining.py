"""How hosts come and go: one-time tokens, the certificates that are issued for them, acceptance before work, removal.

A token is spent in the transaction that makes the hosts' rows and writes their certificates down: there is nothing in between. Who asks
again with the same token and the same keys, because the answer was lost, gets the same certificates; anybody else is refused.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from nacre.cloud.compute.migrations import is_open
from nacre.cloud.compute.tables import migrations, servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, Unauthorized
from nacre.cloud.hosts import fleet
from nacre.cloud.hosts.labels import find
from nacre.cloud.hosts.operations import Row
from nacre.cloud.hosts.tables import host_certificates, host_desired, host_tokens, hosts
from nacre.cloud.network.tables import ports, routers
from nacre.cloud.volumes.tables import volumes
from nacre.store import announce
from nacre.store.schema import new_id, now

TTL_S_MIN, TTL_S_MAX = 60, 7 * 86_400
HOSTS_MAX = 1000
"""How many hosts one token may be for. More than one only for simulated ones: they share a process."""
SECRET_BYTES = 24
KEPT_S = 86_400.0
"""How long a token that has expired is remembered, so that it can be said that it has."""
CAUSE_CHARACTERS_MAX = 2000


@dataclass(frozen=True)
class Newcomer:
    """A host with the certificate that was signed for it and is not valid before it is written down."""

    host_id: str
    hostname: str
    key: str
    """SHA-256 of its public key."""
    serial: str
    pem: str
    expires_at: float


def issue(conn: sa.Connection, ctx: Context, hosts_max: int, ttl_s: int) -> Row:
    """A token for so many hosts. The secret is in what this returns and nowhere else. Raises Invalid."""
    if not 1 <= hosts_max <= HOSTS_MAX:
        raise Invalid(f"hosts must be 1 to {HOSTS_MAX}.", field="hosts")
    if not TTL_S_MIN <= ttl_s <= TTL_S_MAX:
        raise Invalid(f"ttl_s must be {TTL_S_MIN} to {TTL_S_MAX} seconds.", field="ttl_s")
    moment = now()
    conn.execute(host_tokens.delete().where(host_tokens.c.expires_at < moment - KEPT_S))
    secret = secrets.token_urlsafe(SECRET_BYTES)
    row = {"secret_hash": _hashed(secret), "hosts_max": hosts_max, "created_at": moment, "expires_at": moment + ttl_s}
    conn.execute(host_tokens.insert().values(id=new_id(), **row))
    return {"secret": secret, "hosts": hosts_max, "expires_at": row["expires_at"]}


def known(conn: sa.Connection, secret: str) -> Row:
    """The token, if it is one and has not expired. Raises Unauthorized."""
    row = conn.execute(sa.select(host_tokens).where(host_tokens.c.secret_hash == _hashed(secret))).mappings().first()
    if row is None:
        raise Unauthorized("This cloud does not know the token: take the whole line that `nacre host token` printed.")
    if row["expires_at"] <= now():
        raise Unauthorized("The token has expired: make another with `nacre host token`.")
    return dict(row)


def check(conn: sa.Connection, secret: str, keys: Sequence[str]) -> Row:
    """The token, if hosts with these keys may enrol by it now. Raises Unauthorized, Conflict, Forbidden."""
    row = known(conn, secret)
    if row["used_at"] is not None and row["keys"] != _keys(keys):
        raise Conflict("The token was used already, and is good once: make another with `nacre host token`.")
    if len(keys) > row["hosts_max"]:
        count = row["hosts_max"]
        raise Forbidden(
            f"The token is for {count} host{'s' if count > 1 else ''}, not for {len(keys)}: "
            f"make another with `nacre host token --hosts {len(keys)}`."
        )
    return row


def enrol(conn: sa.Connection, secret: str, newcomers: Sequence[Newcomer]) -> list[Row]:
    """Spend the token: the hosts' rows are made and their certificates valid. Returns host_id, hostname and pem of each, in the order of
    the newcomers; those of the first time, if the answer to it was lost. Raises as `check`; Conflict for a name that is taken."""
    keys = [newcomer.key for newcomer in newcomers]
    token = check(conn, secret, keys)
    if token["used_at"] is not None:
        return _issued(conn, token["id"], keys)
    names = [newcomer.hostname for newcomer in newcomers]
    taken = (
        conn.execute(sa.select(hosts.c.hostname).where(hosts.c.hostname.in_(names)).order_by(hosts.c.hostname)).scalars().first()
    )
    if taken is None and len(set(names)) < len(names):
        taken = next(name for name in names if names.count(name) > 1)
    if taken is not None:
        raise Conflict(f"The cloud has a host {taken} already: join under another name with --name, or remove that one first.")
    moment = now()
    conn.execute(host_tokens.update().where(host_tokens.c.id == token["id"]).values(used_at=moment, keys=_keys(keys)))
    conn.execute(
        hosts.insert(),
        [
            {
                "id": newcomer.host_id,
                "hostname": newcomer.hostname,
                "enrolled": True,
                "acceptance": "waiting",
                "created_at": moment,
                "updated_at": moment,
            }
            for newcomer in newcomers
        ],
    )
    conn.execute(
        host_certificates.insert(),
        [
            {
                "serial": newcomer.serial,
                "host_id": newcomer.host_id,
                "token_id": token["id"],
                "key": newcomer.key,
                "pem": newcomer.pem,
                "issued_at": moment,
                "expires_at": newcomer.expires_at,
            }
            for newcomer in newcomers
        ],
    )
    fleet.changed(conn, *(newcomer.host_id for newcomer in newcomers))
    return [{"host_id": each.host_id, "hostname": each.hostname, "pem": each.pem} for each in newcomers]


def certify(conn: sa.Connection, newcomer: Newcomer) -> None:
    """A host of an API process's own machine gets a certificate, by which it comes to the other processes. Raises Conflict."""
    enrolled = conn.execute(sa.select(hosts.c.enrolled).where(hosts.c.id == newcomer.host_id)).scalar()
    if enrolled is None or enrolled:
        raise Conflict("Only a host of an API process's own machine is certified by that process.")
    conn.execute(host_certificates.delete().where(host_certificates.c.host_id == newcomer.host_id))
    conn.execute(
        host_certificates.insert().values(
            serial=newcomer.serial,
            host_id=newcomer.host_id,
            token_id="",
            key=newcomer.key,
            pem=newcomer.pem,
            issued_at=now(),
            expires_at=newcomer.expires_at,
        )
    )


def _issued(conn: sa.Connection, token_id: str, keys: Sequence[str]) -> list[Row]:
    select = (
        sa.select(host_certificates.c.key, host_certificates.c.host_id, host_certificates.c.pem, hosts.c.hostname)
        .join(hosts, hosts.c.id == host_certificates.c.host_id)
        .where(host_certificates.c.token_id == token_id)
    )
    rows = conn.execute(select).mappings().all()
    known = {row["key"]: {name: row[name] for name in ("host_id", "hostname", "pem")} for row in rows}
    if any(key not in known for key in keys):
        raise Conflict("The host that this token was used for was removed: make another with `nacre host token`.")
    return [known[key] for key in keys]


def holder(conn: sa.Connection, serial: str) -> str | None:
    """The id of the host that a certificate is for, None when it is no host's or its host was removed."""
    select = sa.select(host_certificates.c.host_id)
    return conn.execute(select.where(host_certificates.c.serial == serial, host_certificates.c.expires_at > now())).scalar()


def admit(conn: sa.Connection, host_id: str, *, certified: bool) -> None:
    """Whether a stream may speak for the host: in the transaction that registers it, so that one just removed does not come back.
    Raises Forbidden."""
    enrolled = conn.execute(sa.select(hosts.c.enrolled).where(hosts.c.id == host_id)).scalar()
    if certified and enrolled is None:
        raise Forbidden("this host was removed from the cloud")
    if enrolled and not certified:
        raise Forbidden("this host has joined by a certificate and must show it")


def accept(conn: sa.Connection, host_id: str, cause: str) -> None:
    """The node has examined its host: with no cause to the contrary it takes work from now on."""
    values = {"acceptance": "failed" if cause else "accepted", "acceptance_cause": cause[:CAUSE_CHARACTERS_MAX]}
    waiting = (hosts.c.id == host_id, hosts.c.acceptance != "accepted")
    conn.execute(hosts.update().where(*waiting).values(**values, updated_at=now()))
    fleet.changed(conn, host_id)


def state_of(conn: sa.Connection, host_id: str) -> Row:
    """What a host may know of itself."""
    columns = (hosts.c.id, hosts.c.hostname, hosts.c.acceptance, hosts.c.acceptance_cause, hosts.c.enabled, hosts.c.guests)
    return dict(conn.execute(sa.select(*columns).where(hosts.c.id == host_id)).mappings().one())


def together(conn: sa.Connection, host_id: str, connected: frozenset[str]) -> Row:
    """How the hosts stand that enrolled by the same token as this one: how many there are, how many of them are up and accepted, and the
    first whose examination failed."""
    token = sa.select(host_certificates.c.token_id).where(host_certificates.c.host_id == host_id).scalar_subquery()
    siblings = (
        sa.select(hosts.c.id, hosts.c.hostname, hosts.c.acceptance, hosts.c.acceptance_cause)
        .where(hosts.c.id.in_(sa.select(host_certificates.c.host_id).where(host_certificates.c.token_id == token)))
        .order_by(hosts.c.hostname)
    )
    rows = conn.execute(siblings).all()
    failed = next((row for row in rows if row.acceptance == "failed"), None)
    return {
        "hosts": len(rows),
        "ready": sum(row.acceptance == "accepted" and row.id in connected for row in rows),
        "failed": None if failed is None else {"hostname": failed.hostname, "cause": failed.acceptance_cause},
    }


def cordon(conn: sa.Connection, ctx: Context, ref: str, *, cordoned: bool, reason: str | None = None) -> Row:
    """Give the host no more work (what is there stays), or give it some again. Again: no change. Raises NotFound."""
    row = find(conn, ref)
    values = {"enabled": not cordoned, "disabled_reason": reason if cordoned else None, "updated_at": now()}
    conn.execute(hosts.update().where(hosts.c.id == row["id"]).values(values))
    fleet.changed(conn, row["id"])
    return find(conn, row["id"])


def topic_removed(host_id: str) -> str:
    """Announced when a host was removed: its stream ends."""
    return f"host-removed:{host_id}"


def remove(conn: sa.Connection, ctx: Context, ref: str, connected: frozenset[str]) -> None:
    """Strike the host out, and its certificate with it. Raises NotFound; Conflict while anything is there."""
    row = find(conn, ref)
    host_id, name = row["id"], row["hostname"]
    for table, what in ((servers, "server"), (volumes, "volume"), (routers, "router")):
        count = conn.execute(sa.select(sa.func.count()).select_from(table).where(table.c.host_id == host_id)).scalar_one()
        if count:
            raise Conflict(f"Host {name} has {count} {what}{'s' if count > 1 else ''}: delete or move them first.")
    leaving = sa.or_(migrations.c.source_host_id == host_id, migrations.c.dest_host_id == host_id)
    if conn.execute(sa.select(migrations.c.id).where(is_open(), leaving).limit(1)).first() is not None:
        raise Conflict(f"A server is on its way from or to host {name}: confirm or revert its migration first.")
    if host_id in connected:
        if not row["enrolled"]:
            raise Conflict(
                f"Host {name} is the cloud's own machine and would be back at once: it goes with `nacre down --purge`."
            )
        left = conn.execute(sa.select(sa.func.count()).where(host_desired.c.host_id == host_id)).scalar_one()
        if left:
            raise Conflict(f"The node of host {name} still undoes {left} things: try again in a moment.")
    conn.execute(ports.update().where(ports.c.host_id == host_id).values(host_id=None))
    conn.execute(host_certificates.delete().where(host_certificates.c.host_id == host_id))
    conn.execute(hosts.delete().where(hosts.c.id == host_id))
    fleet.changed(conn, host_id)
    announce(conn, topic_removed(host_id), True)


def _hashed(secret: str) -> str:
    """It is random and long: it needs no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _keys(keys: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
