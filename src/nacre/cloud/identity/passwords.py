"""Passwords, by scrypt (RFC 7914) in threads of their own: never in the loop, never in the store's writer."""

import asyncio
import base64
import hashlib
import hmac
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from nacre.cloud.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 2
PENDING_MAX = 256
"""Hashes that may wait for a thread; beyond that callers are told to come again."""
BLOCK_SIZE = 8
MEMORY_BYTES_MAX = 256 * 1024 * 1024
COST_DEFAULT = 14
"""log2 of scrypt's N: 16 MiB and some 40 ms."""


def hash_now(password: str, cost: int = COST_DEFAULT) -> str:
    """`scrypt$COST$SALT$DIGEST`."""
    salt = os.urandom(16)
    return "$".join(("scrypt", str(cost), _text(salt), _text(_digest(password, salt, cost))))


def verify_now(password: str, hashed: str) -> bool:
    _, cost, salt, digest = hashed.split("$")
    return hmac.compare_digest(_digest(password, base64.b64decode(salt), int(cost)), base64.b64decode(digest))


def _digest(password: str, salt: bytes, cost: int) -> bytes:
    # scrypt takes its input as an HMAC key, which is padded with zero bytes: without this "x" and "x\\0" would be the same password.
    data = hashlib.sha512(password.encode("utf-8", "surrogatepass")).digest()
    return hashlib.scrypt(data, salt=salt, n=2**cost, r=BLOCK_SIZE, p=1, maxmem=MEMORY_BYTES_MAX, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Passwords:
    """Hashes and checks passwords in a few threads, with a bounded queue."""

    def __init__(self, cost: int = COST_DEFAULT) -> None:
        self._cost = cost
        self._pool = ThreadPoolExecutor(THREADS, "passwords")
        self._pending = 0
        self._nobody = hash_now("", cost)

    async def hash(self, password: str) -> str:
        """Raises Unavailable when too many wait."""
        return await self._run(hash_now, password, self._cost)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether the password is right. None, for a user that is not there or has no password, takes as long and is False."""
        right = await self._run(verify_now, password, hashed or self._nobody)
        return right and hashed is not None

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._pending >= PENDING_MAX:
            raise Unavailable("Too many passwords are being checked; try again.")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **kwargs))
        finally:
            self._pending -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
