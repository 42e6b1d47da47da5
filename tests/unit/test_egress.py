"""The way out for transfers: what it connects to and what it does not."""

import asyncio

import aiohttp
from aiohttp import web

from nacre.cloud.image.sources import ImportRules
from nacre.panes.docker import egress

ANYWHERE = ImportRules(allowed_networks=("127.0.0.0/8", "::1/128"))


async def _hello(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.path_qs} {request.headers.get('Proxy-Connection')}")


async def _ask(rules: ImportRules, base_url: str, path: str, *, tunnel: bool = False) -> tuple[int, str, str]:
    """Status and text of a request through the gate to a server on loopback, and what the gate refused."""
    app = web.Application()
    app.router.add_get("/{rest:.*}", _hello)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        async with egress.gate(rules, base_url.format(port=port)) as gate:
            proxy = gate.environment["HTTP_PROXY"]
            if tunnel:
                return *await _tunnelled(proxy, port, path), gate.refused
            async with aiohttp.ClientSession() as session, session.get(f"http://localhost:{port}{path}", proxy=proxy) as answer:
                return answer.status, await answer.text(), gate.refused.replace(str(port), "PORT")
    finally:
        await runner.cleanup()


async def _tunnelled(proxy: str, port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.rpartition(":")[2]))
    try:
        writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()
    finally:
        writer.close()


def test_a_name_that_leads_to_loopback_is_refused() -> None:
    status, _, refused = asyncio.run(_ask(ImportRules(), "http://127.0.0.1:1", "/secret"))
    assert (status, refused) == (403, "localhost:PORT")


def test_what_the_rules_allow_is_asked_without_the_proxys_own_fields() -> None:
    assert asyncio.run(_ask(ANYWHERE, "http://127.0.0.1:1", "/v2/?a=b")) == (200, "/v2/?a=b None", "")
    assert asyncio.run(_ask(ANYWHERE, "http://127.0.0.1:1", "/v2/", tunnel=True)) == (200, "/v2/ None", "")


def test_the_clouds_own_registry_is_asked_wherever_it_is() -> None:
    assert asyncio.run(_ask(ImportRules(), "http://127.0.0.1:{port}", "/v2/"))[0] == 200


def test_nonsense_ends_the_connection() -> None:
    async def story() -> None:
        async with egress.gate(ImportRules(), "http://127.0.0.1:1") as gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.environment["HTTP_PROXY"].rpartition(":")[2]))
            writer.write(b"what is this\r\n\r\n")
            assert await reader.read() == b""
            writer.close()

    asyncio.run(story())
