"""Fernet keys: rows of the store, wrapped by a key file that operators copy to each API host.

A new key is staged first: every process can verify with it before any process signs with it. `rotate` makes the staged key primary,
the primary secondary, stages a new one, and drops the oldest secondaries.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from nacre.cloud.identity.tables import fernet_keys
from nacre.store import Store, StoreError, announce
from nacre.store.schema import now

SECONDARIES_MAX = 3
"""With a rotation per token lifetime or slower, no valid token loses its key."""
TOPIC = "identity:keys"


def wrapping_key(state: Path) -> bytes:
    """The key file's content; made, readable by its owner alone, when it is not there."""
    path = state / "identity.key"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as file:
        key = Fernet.generate_key()
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


class Keys:
    """The keys of this process. `reload` when the store tells of a rotation."""

    def __init__(self, store: Store, wrapping: bytes) -> None:
        self._store = store
        self._wrapping = wrapping
        self._primary: Fernet
        self._all: MultiFernet
        self.reload()
        store.watch(TOPIC, lambda topic, value: self.reload())

    def reload(self) -> None:
        """Raises StoreError when there are no keys or the key file is not theirs."""
        keys = self._store.read_now(load, self._wrapping)
        if not keys:
            raise StoreError("there are no Fernet keys: run identity's bootstrap first")
        self._primary = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])

    def sign(self, payload: bytes) -> str:
        return self._primary.encrypt(payload).decode().rstrip("=")

    def open(self, token: str) -> bytes | None:
        """The payload; None when none of the keys made this token."""
        try:
            data = token.encode("ascii")
            return self._all.decrypt(data + b"=" * (-len(data) % 4))
        except (InvalidToken, ValueError):
            return None

    async def rotate(self) -> None:
        await self._store.write(rotate, self._wrapping)


def load(conn: sa.Connection, wrapping: bytes) -> list[bytes]:
    """The primary first, then the newest secondaries, then the staged one."""
    rank = {"primary": 0, "secondary": 1, "staged": 2}
    rows = sorted(conn.execute(sa.select(fernet_keys)).all(), key=lambda row: (rank[row.state], -row.id))
    try:
        return [Fernet(wrapping).decrypt(row.wrapped.encode()) for row in rows]
    except InvalidToken:
        raise StoreError("the key file identity.key is not the one that wrapped the Fernet keys") from None


def rotate(conn: sa.Connection, wrapping: bytes) -> None:
    """One step; on an empty table it makes the first primary and staged keys."""
    states = {
        state: ident for ident, state in conn.execute(sa.select(fernet_keys.c.id, fernet_keys.c.state).order_by(fernet_keys.c.id))
    }
    if "staged" not in states:
        _add(conn, wrapping, "primary")
    else:
        _set(conn, [states["primary"]], "secondary")
        _set(conn, [states["staged"]], "primary")
    _add(conn, wrapping, "staged")
    secondaries = sa.select(fernet_keys.c.id).where(fernet_keys.c.state == "secondary").order_by(fernet_keys.c.id.desc())
    for ident in conn.execute(secondaries).scalars().all()[SECONDARIES_MAX:]:
        conn.execute(fernet_keys.delete().where(fernet_keys.c.id == ident))
    announce(conn, TOPIC)


def _add(conn: sa.Connection, wrapping: bytes, state: str) -> None:
    wrapped = Fernet(wrapping).encrypt(Fernet.generate_key()).decode()
    highest = conn.execute(sa.select(sa.func.max(fernet_keys.c.id))).scalar() or 0
    conn.execute(fernet_keys.insert().values(id=highest + 1, state=state, wrapped=wrapped, created_at=now()))


def _set(conn: sa.Connection, ids: Iterable[int], state: str) -> None:
    for ident in ids:
        conn.execute(fernet_keys.update().where(fernet_keys.c.id == ident).values(state=state))
