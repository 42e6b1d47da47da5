"""What tests of several tiers share: a cloud in this process, and a small HTTP client."""

import asyncio
import itertools
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from nacre.cloud import schema
from nacre.cloud.compute import flavors
from nacre.cloud.context import internal
from nacre.cloud.core import Cloud, Settings
from nacre.cloud.errors import Unavailable
from nacre.cloud.identity import assignments, bootstrap, tables
from nacre.cloud.identity.assignments import Grant
from nacre.cloud.identity.passwords import hash_now
from nacre.cloud.identity.scopes import Scope
from nacre.cloud.identity.service import open_identity
from nacre.cloud.processes import operations as processes
from nacre.panes.edge.app import SERVER_OPTIONS, build
from nacre.panes.services import SERVICES
from nacre.store import Store
from nacre.store.blobs import DirectoryBlobs
from nacre.store.schema import new_id
from tests.postgres import store_url


@dataclass(frozen=True)
class Actor:
    """A user with one role on one project. The ids are fixed so that tests may name them."""

    user_id: str
    user_name: str
    project_id: str
    project_name: str
    role: str
    password: str


ACTORS = {
    "admin": Actor("a" * 32, "admin", "0" * 32, "admin", "admin", "admin-secret"),
    "member": Actor("b" * 32, "demo", "1" * 32, "demo", "member", "demo-secret"),
    "other": Actor("c" * 32, "oth", "2" * 32, "other", "member", "oth-secret"),
    "reader": Actor("d" * 32, "eye", "1" * 32, "demo", "reader", "eye-secret"),
}
PASSWORD_COST = 4
"""scrypt as cheap as it gets: the tests are not about brute force."""
SHUTDOWN_TIMEOUT_S = 5.0
"""How long what is being answered may take at the end."""


class NoHosts:
    """No node is connected."""

    async def dial(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        raise Unavailable("The host has no stream to this API process.")

    def alive(self) -> frozenset[str]:
        return frozenset()

    def connected(self) -> frozenset[str]:
        return frozenset()

    def facts(self, host_id: str) -> dict[str, Any]:
        return {}

    def renew(self, host_ids: Iterable[str]) -> None: ...

    def recorded(self, beats: Mapping[str, int]) -> None: ...

    def tell_peers(self) -> None: ...

    def let_go(self) -> None: ...


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Calls by path; the token and JSON encoding are added."""

    base_url: str
    token: str

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data=data, method=method)
        request.add_header("X-Auth-Token", self.token)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())


@dataclass
class Balanced(Client):
    """Each request goes to another process than the one before, as a balancer would send it; to one that is not there, it is an OSError."""

    others: tuple[str, ...] = ()
    _turn: Any = field(default_factory=itertools.count)

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        places = (self.base_url, *self.others)
        return Client(places[next(self._turn) % len(places)], self.token)(method, path, body, headers)


@dataclass
class RunningCloud:
    cloud: Cloud
    runner: web.AppRunner
    base_url: str
    tokens: dict[str, str]
    loop: asyncio.AbstractEventLoop
    """In which it is served."""
    store_url: str

    def client(self, actor: str) -> Client:
        return Client(self.base_url, self.tokens[actor])

    async def close(self) -> None:
        """As the API process ends: what waits for hosts' sake answers at once."""
        self.cloud.ending.begin()
        await self.runner.cleanup()
        for close in reversed(self.cloud.closing):
            await close()
        self.cloud.blobs.close()
        self.cloud.store.close()


def _add_actors(conn: sa.Connection) -> None:
    """The actors' users and projects, before the bootstrap finds some of them by name."""
    domain = {"domain_id": bootstrap.DEFAULT_DOMAIN}
    bootstrap.default_domain(conn)
    roles = bootstrap.default_roles(conn)
    for actor in ACTORS.values():
        known = conn.execute(sa.select(tables.projects.c.id).where(tables.projects.c.id == actor.project_id)).first()
        if known is None:
            project = {"id": actor.project_id, "name": actor.project_name, "parent_id": bootstrap.DEFAULT_DOMAIN}
            conn.execute(tables.projects.insert().values(project | domain))
        user = {"id": actor.user_id, "name": actor.user_name, "default_project_id": actor.project_id}
        conn.execute(tables.users.insert().values(user | domain | {"password_hash": hash_now(actor.password, PASSWORD_COST)}))
        grant = Grant("user", actor.user_id, "project", actor.project_id, roles[actor.role])
        assignments.add(conn, internal(), grant)


async def run_cloud(state: Path, *, database: str = "", beside: RunningCloud | None = None, **settings_too: Any) -> RunningCloud:
    """The application over a fresh store (`database`, if given), bootstrapped, with the actors' users in it. `beside`: one more API process
    of that cloud, with the same state directory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base_url = f"http://127.0.0.1:{port}"
    public_url = beside.cloud.settings.base_url if beside else base_url
    settings = Settings(public_url, "cafe", state, password_cost=PASSWORD_COST, **settings_too)
    url = beside.store_url if beside else database or store_url(state / "nacre.sqlite")
    store = Store(url)
    await schema.prepare(store)
    if beside is None:
        await store.write(_add_actors)
        await bootstrap.prepare(store, settings, {})
        await store.write(flavors.bootstrap)
    identity = open_identity(store, settings)
    ident = new_id()
    process = processes.Process(ident, "here", base_url.removeprefix("http://"), "", "0", leads=not store.shared)
    await store.write(processes.register, process, alone=not store.shared)
    store.write_while(processes.row_of(ident))
    blobs = DirectoryBlobs(state / "blobs", ident)
    cloud = Cloud(settings, store, identity.tokens.authenticate, NoHosts(), blobs=blobs, identity=identity, process_id=ident)
    cloud.closing.append(identity.close)
    tokens = {
        name: identity.tokens.issue(actor.user_id, ("password",), Scope("project", actor.project_id))[0]
        for name, actor in ACTORS.items()
    }
    runner = web.AppRunner(build(cloud, SERVICES), **SERVER_OPTIONS, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.sleep(0)
    return RunningCloud(cloud, runner, base_url, tokens, asyncio.get_running_loop(), url)
