"""Passwords of servers: kept and sent as crypt(5) has them (SHA-512), so that nobody but their maker can say what they are."""

import ctypes
import ctypes.util
import secrets
import string
import threading
from functools import lru_cache

import sqlalchemy as sa

from nacre.cloud.compute import timeline
from nacre.cloud.compute.actions import intend, ready
from nacre.cloud.compute.servers import changeable, get
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid

PASSWORD_CHARACTERS = 12
SALT_CHARACTERS = 16
ENCRYPTED_BYTES_MAX = 1020
"""Of what a guest tells: four pieces of 255 bytes, as Nova has it."""
PASSWORD_BYTES_MAX = 511
"""crypt(3) takes no more (CRYPT_MAX_PASSPHRASE_SIZE)."""
ROUNDS_OF_GENERATED = 1000
"""The fewest that there are, where crypt's own are 5000: nobody guesses 71 bits, and each server that is made would pay for the rest."""
_ALPHABET = string.ascii_letters + string.digits
_lock = threading.Lock()
"""crypt(3) answers in one place for the whole process."""


def generate() -> str:
    """A password for a server whose maker named none."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(PASSWORD_CHARACTERS))


@lru_cache(maxsize=1)
def _crypt() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return library


def hash_of(password: str, *, generated: bool = False) -> str:
    """As /etc/shadow takes it; `generated`: it is one of `generate`.

    A password ends at its first NUL, as everywhere in C. Raises Invalid, and OSError where the system's crypt cannot do it.
    """
    encoded = password.encode()
    if len(encoded) > PASSWORD_BYTES_MAX:
        raise Invalid(
            f"Invalid input for field/attribute adminPass. It has {PASSWORD_BYTES_MAX} bytes at most.", field="adminPass"
        )
    rounds = f"rounds={ROUNDS_OF_GENERATED}$" if generated else ""
    salt = f"$6${rounds}" + "".join(secrets.choice(_ALPHABET) for _ in range(SALT_CHARACTERS))
    with _lock:
        found: bytes | None = _crypt().crypt(encoded, salt.encode())
    if not found or not found.startswith(b"$6$"):
        raise OSError("crypt(3) of this system does not know SHA-512")
    return found.decode()


def change(conn: sa.Connection, ctx: Context, ident: str, password_hash: str) -> None:
    """Give a running server's root another password: https://docs.openstack.org/api-ref/compute/#change-administrative-password-changepassword-action."""
    row = ready(conn, ctx, ident, "changePassword", frozenset({"active"}))
    intend(conn, ctx, row, "set-password", {"password_hash": password_hash})
    timeline.begin(conn, ctx, row, "changePassword")


def encrypted(conn: sa.Connection, ctx: Context, ident: str) -> str:
    """The password that the guest chose, as it encrypted it itself; empty when it told none."""
    return str(get(conn, ctx, ident)["encrypted_password"])


def forget_encrypted(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """The guest itself keeps its password."""
    row = changeable(conn, ctx, ident)
    conn.execute(servers.update().where(servers.c.id == row["id"]).values(encrypted_password=""))


def told(conn: sa.Connection, host_id: str, ident: str) -> str | None:
    """What the guest told already; None for one that is not of that host."""
    known = (servers.c.id == ident, servers.c.host_id == host_id)
    return conn.execute(sa.select(servers.c.encrypted_password).where(*known)).scalar()


def tell_encrypted(conn: sa.Connection, host_id: str, ident: str, text: str) -> bool:
    """A guest tells the password that it chose. False when it has told one already (Nova's metadata service takes one only), or is not there."""
    known = (servers.c.id == ident, servers.c.host_id == host_id, servers.c.gone.is_(False), servers.c.encrypted_password == "")
    return bool(conn.execute(servers.update().where(*known).values(encrypted_password=text)).rowcount)
