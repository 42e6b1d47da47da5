"""What `ADD https://...` of a Dockerfile fetches: by the API process, bounded in time and size.

A tenant names the place, and is given what is there. So nobody connects to anything but addresses of the public Internet, whatever a name
resolves to and wherever a redirect leads, unless an administrator allows the project others (docker:private_urls).
"""

import asyncio
import ipaddress
import socket
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from nacre.cloud.containers import grants
from nacre.cloud.errors import Forbidden, Invalid
from nacre.cloud.image.sources import is_public
from nacre.panes.edge import Call

POLICY = "docker:private_urls"
BYTES_MAX = 8 << 30
CONNECT_S_MAX, STALL_S_MAX, WHOLE_S_MAX = 30.0, 60.0, 3600.0
REDIRECTS_MAX = 10
CHUNK_BYTES = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)


class _NotPublic(OSError):
    """An address to which nobody connects for this project."""


async def download(call: Call, url: str, target: Path) -> int:
    """Fetch a file. Returns its Last-Modified as seconds since the epoch, 0 without one. Raises Invalid, Forbidden."""
    private = await call.read(grants.has, POLICY)
    timeout = aiohttp.ClientTimeout(total=WHOLE_S_MAX, sock_connect=CONNECT_S_MAX, sock_read=STALL_S_MAX)
    connector = aiohttp.TCPConnector(socket_factory=_socket if private else _public_socket, force_close=True)
    limit = min(BYTES_MAX, call.cloud.settings.image_size_max_bytes)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False, trust_env=False) as session:
        try:
            return await _follow(session, url, target, limit)
        except TimeoutError:
            raise Invalid(f"ADD failed: failed to GET {url}: the server is too slow") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            if isinstance(cause, _NotPublic):
                raise _refused(call, url, cause) from None
            raise Invalid(f"ADD failed: failed to GET {url}: {cause or type(error).__name__}") from None


def _refused(call: Call, url: str, cause: _NotPublic) -> Forbidden:
    return Forbidden(
        f"ADD failed: {url} is at {cause}, which is no public address: policy doesn't allow {POLICY} to be performed. "
        f"An administrator allows it with: nacre docker allow --project {call.context.project_name} {POLICY}",
        code="PolicyNotAuthorized",
        policy=POLICY,
    )


async def _follow(session: aiohttp.ClientSession, url: str, target: Path, limit: int) -> int:
    at = URL(url)
    for _ in range(REDIRECTS_MAX):
        if at.scheme not in ("http", "https") or not at.host:
            raise Invalid(f"ADD failed: failed to GET {url}: unsupported protocol scheme {at.scheme!r}")
        async with session.get(at, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response:
            location = response.headers.get("Location", "")
            if response.status in _REDIRECTS and location:
                at = at.join(URL(location))
                continue
            if response.status != 200:
                raise Invalid(f"ADD failed: failed to GET {url} with status {response.status} {response.reason}")
            await _keep(response, url, target, limit)
            return _changed(response.headers.get("Last-Modified", ""))
    raise Invalid(f"ADD failed: failed to GET {url}: stopped after {REDIRECTS_MAX} redirects")


async def _keep(response: aiohttp.ClientResponse, url: str, target: Path, limit: int) -> None:
    size = 0
    with target.open("wb") as file:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise Invalid(f"ADD failed: {url} is larger than {limit} bytes")
            await asyncio.to_thread(file.write, chunk)


def _changed(text: str) -> int:
    try:
        return max(0, int(parsedate_to_datetime(text).timestamp()))
    except (ValueError, OverflowError):
        return 0


def _socket(info: Any) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family=family, type=kind, proto=protocol)


def _public_socket(info: Any) -> socket.socket:
    """Every connection begins here, by a name or by a bare address. Raises _NotPublic."""
    address = ipaddress.ip_address(str(info[4][0]).partition("%")[0])
    if not is_public(address):
        raise _NotPublic(str(address))
    return _socket(info)
