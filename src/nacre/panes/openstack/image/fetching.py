"""Bytes from a web server, by the rules of the cloud: every address that a name or a redirect leads to is checked before it is asked."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from nacre.cloud.errors import Invalid
from nacre.cloud.image.sources import ImportRules, Refused

CONNECT_S = 10.0
IDLE_S = 60.0
"""A server that sends nothing for so long is given up."""
REDIRECTS_MAX = 5
CHUNK_BYTES = 1 << 20
REDIRECTS = (301, 302, 303, 307, 308)
AGENT = {"User-Agent": "nacre", "Accept-Encoding": "identity"}


class Unreachable(Invalid):
    """The server could not be asked, or did not say what it was asked for."""


class _Checked(AbstractResolver):
    """Resolves names to addresses that may be asked; the connection goes to one of just these."""

    def __init__(self, rules: ImportRules) -> None:
        self._rules, self._inner = rules, ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for each in found:
            self._rules.check_address(each["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


async def chunks(rules: ImportRules, url: URL) -> AsyncIterator[bytes]:
    """What the server sends for that URL, redirects followed. Raises Refused, Unreachable."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=IDLE_S)
    connector = aiohttp.TCPConnector(resolver=_Checked(rules), use_dns_cache=False, force_close=True)
    options: dict[str, Any] = {
        "timeout": timeout,
        "headers": AGENT,
        "auto_decompress": False,
        "cookie_jar": aiohttp.DummyCookieJar(),
    }
    async with aiohttp.ClientSession(connector=connector, **options) as session:
        try:
            async with await _asked(session, rules, url) as response:
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    yield chunk
        except Refused:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{url.human_repr()[:200]} could not be fetched: {reason[:300]}", field="uri") from None


async def _asked(session: aiohttp.ClientSession, rules: ImportRules, url: URL) -> aiohttp.ClientResponse:
    for _ in range(REDIRECTS_MAX + 1):
        response = await session.get(url, allow_redirects=False)
        if response.status in REDIRECTS and "Location" in response.headers:
            location = response.headers["Location"]
            response.close()
            url = rules.check_url(str(url.join(URL(location))))
            continue
        if response.status != 200:
            response.close()
            raise Unreachable(f"{url.human_repr()[:200]} answers {response.status}.", field="uri")
        return response
    raise Unreachable(f"{url.human_repr()[:200]} leads on and on.", field="uri")
