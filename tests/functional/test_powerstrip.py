"""Powerstrip: clients, adapters and an engine, each a server of its own on loopback; the engine keeps what it was sent."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from nacre.panes.powerstrip.serving import AdaptersFile, runner

Story = Callable[["Stage"], Awaitable[None]]


class Stage:
    """An engine, an adapter and the proxy between the client and the engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[tuple[str, str, bytes]] = []
        self.hooks: list[dict[str, Any]] = []
        self.adapter: Callable[[dict[str, Any]], web.Response] = lambda hook: unchanged(hook)
        self.runners: list[web.AppRunner] = []
        self.url = ""

    async def engine(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.method, request.path_qs, body))
        if request.path.endswith("/missing"):
            return web.json_response({"message": "No such container"}, status=404)
        if request.path.endswith("/events"):
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(b'{"first": 1}\n')
            await asyncio.sleep(0)
            await response.write(b'{"second": 2}\n')
            return response
        return web.json_response({"Id": "abc", "Warnings": []}, status=201)

    async def ask(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/ping":
            return web.Response(text="pong")
        hook = await request.json()
        self.hooks.append(hook)
        return self.adapter(hook)

    async def serve(self, handler: Any) -> str:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        served = web.AppRunner(app)
        await served.setup()
        site = web.TCPSite(served, "127.0.0.1", 0)
        await site.start()
        self.runners.append(served)
        return site.name.removeprefix("http://")

    async def start(self, endpoints: dict[str, Any], engine: str | None = None) -> None:
        address = engine or await self.serve(self.engine)
        adapter = await self.serve(self.ask)
        file = self.folder / "adapters.yml"
        adapters = {name: f"http://{adapter}/{name}" for name in ("one", "two")}
        file.write_text(json.dumps({"version": 1, "endpoints": endpoints, "adapters": adapters}))
        proxy = await runner(f"tcp://{address}", AdaptersFile(file))
        site = web.TCPSite(proxy, "127.0.0.1", 0)
        await site.start()
        self.runners.append(proxy)
        self.url = site.name


def unchanged(hook: dict[str, Any]) -> web.Response:
    if hook["Type"] == "pre-hook":
        return web.json_response({"PowerstripProtocolVersion": 1, "ModifiedClientRequest": hook["ClientRequest"]})
    return web.json_response({"PowerstripProtocolVersion": 1, "ModifiedServerResponse": hook["ServerResponse"]})


def play(folder: Path, endpoints: dict[str, Any], story: Story, engine: str | None = None) -> Stage:
    stage = Stage(folder)

    async def run() -> None:
        try:
            await stage.start(endpoints, engine)
            await story(stage)
        finally:
            for served in stage.runners:
                await served.cleanup()

    asyncio.run(run())
    return stage


CREATE = "POST /*/containers/create"


def test_each_adapter_gets_what_the_one_before_it_gave(tmp_path: Path) -> None:
    def adapter(hook: dict[str, Any]) -> web.Response:
        request = hook["ClientRequest"]
        body = json.loads(request["Body"])
        body.setdefault("Env", []).append(f"ROUND={len(body.get('Env', []))}")
        changed = {**request, "Body": json.dumps(body), "Request": request["Request"] + "&more=1"}
        return web.json_response({"PowerstripProtocolVersion": 1, "ModifiedClientRequest": changed})

    async def story(stage: Stage) -> None:
        stage.adapter = adapter
        url = f"{stage.url}/v1.16/containers/create?name=web"
        async with aiohttp.ClientSession() as session, session.post(url, json={"Image": "busybox"}) as answer:
            assert (answer.status, (await answer.json())["Id"]) == (201, "abc")

    stage = play(tmp_path, {CREATE: {"pre": ["one", "two"]}}, story)
    ((method, path, body),) = stage.seen
    assert (method, path) == ("POST", "/v1.16/containers/create?name=web&more=1&more=1")
    assert json.loads(body) == {"Image": "busybox", "Env": ["ROUND=0", "ROUND=1"]}
    first = stage.hooks[0]
    assert (first["PowerstripProtocolVersion"], first["Type"], first["ClientRequest"]["Method"]) == (1, "pre-hook", "POST")
    assert first["ClientRequest"]["Request"] == "/v1.16/containers/create?name=web"


def test_a_post_hook_changes_answer_and_code_also_of_an_error(tmp_path: Path) -> None:
    def adapter(hook: dict[str, Any]) -> web.Response:
        response = hook["ServerResponse"]
        assert (response["Code"], json.loads(response["Body"])["message"]) == (404, "No such container")
        changed = {"ContentType": "text/plain", "Body": "gone fishing", "Code": 410}
        return web.json_response({"PowerstripProtocolVersion": 1, "ModifiedServerResponse": changed})

    async def story(stage: Stage) -> None:
        stage.adapter = adapter
        async with aiohttp.ClientSession() as session, session.get(f"{stage.url}/v1.50/missing") as answer:
            assert (answer.status, answer.content_type, await answer.text()) == (410, "text/plain", "gone fishing")

    play(tmp_path, {"GET /*/missing": {"post": ["one"]}}, story)


def test_an_adapter_that_refuses_ends_the_chain_and_the_engine_hears_nothing(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.adapter = lambda hook: web.json_response({"message": "not on my watch"}, status=403)
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{stage.url}/v1.50/containers/create", json={}) as answer:
                assert (answer.status, await answer.json()) == (403, {"message": "not on my watch"})
            stage.adapter = lambda hook: web.Response(text="nonsense")
            async with session.post(f"{stage.url}/v1.50/containers/create", json={}) as answer:
                assert answer.status == 502
                assert "The adapter one answered with something else" in (await answer.json())["message"]

    stage = play(tmp_path, {CREATE: {"pre": ["one", "two"]}}, story)
    assert (stage.seen, len(stage.hooks)) == ([], 2)


def test_an_adapter_may_not_make_another_call_of_it(tmp_path: Path) -> None:
    def adapter(hook: dict[str, Any]) -> web.Response:
        changed = {**hook["ClientRequest"], "Request": "/v1.50/containers/prune"}
        return web.json_response({"PowerstripProtocolVersion": 1, "ModifiedClientRequest": changed})

    async def story(stage: Stage) -> None:
        stage.adapter = adapter
        async with aiohttp.ClientSession() as session, session.post(f"{stage.url}/v1.50/containers/create", json={}) as answer:
            assert (answer.status, "may not make" in (await answer.json())["message"]) == (502, True)

    assert play(tmp_path, {CREATE: {"pre": ["one"]}}, story).seen == []


def test_what_is_no_json_is_not_shown_and_tars_pass_by(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with aiohttp.ClientSession() as session:
            for content_type in ("application/octet-stream", "application/x-tar"):
                headers = {"Content-Type": content_type}
                async with session.post(f"{stage.url}/v1.50/build?t=x", data=b"\xff\x00", headers=headers) as answer:
                    assert answer.status == 201

    stage = play(tmp_path, {"POST /*/build": {"pre": ["one"]}}, story)
    assert [body for _, _, body in stage.seen] == [b"\xff\x00"] * 2
    assert [hook["ClientRequest"]["Body"] for hook in stage.hooks] == [None]


def test_a_dead_adapter_and_a_dead_engine_are_named(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.runners[-2].cleanup()  # The adapter; the proxy was started after it.
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{stage.url}/v1.50/containers/create", json={}) as answer:
                assert (answer.status, "The adapter one could not be asked" in await answer.text()) == (502, True)
            async with session.get(f"{stage.url}/v1.50/info") as answer:
                assert (answer.status, "cannot be reached" in await answer.text()) == (502, True)

    play(tmp_path, {CREATE: {"pre": ["one"]}}, story, engine="127.0.0.1:1")


def test_streams_pass_as_they_come_and_raw_connections_go_both_ways(tmp_path: Path) -> None:
    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Upgrade: tcp" in head
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello ")
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()

    async def story(stage: Stage) -> None:
        host, _, port = stage.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1.50/containers/x/attach?stream=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        async with asyncio.timeout(30):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 UPGRADED\r\n")
            writer.write(b"some words")
            writer.write_eof()
            assert await reader.read() == b"hello SOME WORDS"
        writer.close()

    async def main() -> None:
        stage = Stage(tmp_path)
        server = await asyncio.start_server(engine, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        try:
            await stage.start({"POST /*/attach": {"post": ["one"]}}, f"{host}:{port}")
            await story(stage)
        finally:
            server.close()
            for served in stage.runners:
                await served.cleanup()
        assert stage.hooks == []

    asyncio.run(main())
