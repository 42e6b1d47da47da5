"""Every route of every service, with what nobody should send: never a 5xx, always the dialect's own error, and nothing half made.

The run is drawn from one seed, always the same one: a change is judged by what it changed. NACRE_FUZZ_SEED=N
draws another, NACRE_FUZZ_ROUNDS=N sends more.
"""

import asyncio
import http.client
import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from nacre.cloud.hosts import operations as hosts
from nacre.panes.docker import lifecycle, swarm
from nacre.panes.edge import Route, Service
from nacre.panes.services import SERVICES
from nacre.protocol.messages import Capacity, Hello, Survey
from nacre.protocol.streams import Channel, FromClient, Started
from nacre.store import Store
from tests.fuzz import bodies, things, values
from tests.support import ACTORS, RunningCloud

ROUNDS = int(os.environ.get("NACRE_FUZZ_ROUNDS", "1"))
SENT_PER_READ = 14
SENT_PER_WRITE = 22
SENT_PER_BODY = 34
"""Requests to one route in one round: reads, writes without a body, and writes with one."""
FAILURES_MAX = 40
HOST = "11111111-1111-4111-8111-111111111111"
DOCKERS_500 = (b"pinging container registry", b" is not paused", b" running on unhealthy node ")
"""Where Docker's engine itself, or Swarm, says 500: a registry out there that does not answer, and what a container is not."""
UNANSWERED = 599
EMPTY_SURVEY = msgspec.msgpack.encode(Survey((), ()))
CALLERS = (*("admin",) * 5, *("member",) * 3, "other", "reader", "forged", "none")
COPIES = 3
"""How many of each thing are made: some of them will be gone before all routes were tried."""

NAMES_OF_COMPUTE = frozenset(
    ("badRequest", "unauthorized", "forbidden", "itemNotFound", "badMethod", "conflictingRequest", "overLimit", "badMediaType")
)


def is_error(service: Service, status: int, body: Any) -> bool:
    """Whether a body has the shape in which the service's dialect words errors."""
    match service.service_type:
        case "identity" | "operator":
            return body["error"]["code"] == status and isinstance(body["error"]["message"], str)
        case "network":
            return all(isinstance(body["NeutronError"][name], str) for name in ("type", "message", "detail"))
        case "image":
            return str(body["code"]).startswith(str(status)) and isinstance(body["message"], str)
        case "consul":
            return isinstance(body, str) or set(body) == {"Results", "Errors"}
        case "docker":
            return isinstance(body["message"], str)
        case "tutum" | "docker-cloud":
            return set(body) == {"error"} and isinstance(body["error"], str)
        case "registry":
            return all(isinstance(body["errors"][0][name], str) for name in ("code", "message"))
        case "placement":
            return body["errors"][0]["status"] == status and isinstance(body["errors"][0]["detail"], str)
        case _:
            ((name, fault),) = body.items()
            known = name in NAMES_OF_COMPUTE or status not in (400, 401, 403, 404, 405, 409, 413, 415)
            return known and fault["code"] == status and isinstance(fault["message"], str)


ANSWERS = {
    "meters": b"\x80",
    "survey": EMPTY_SURVEY,
    "size": b'{"SizeRw":1,"SizeRootFs":2}',
    "exec_state": b'{"running":true}',
    "archive_stat": b'{"name":"a","size":1,"mode":420,"mtime":"2026-01-01T00:00:00Z","linkTarget":""}',
    "changes": b"[]",
    "top": b'{"Titles":["PID"],"Processes":[["1"]]}',
}
SAMPLE = b'{"read":"2026-01-01T00:00:00Z","cpu_stats":{}}'


class OneHost:
    """A host that is alive, and whose console says something: no 503 has an excuse.

    No node stands behind it, so it is not connected: what waits for a node's word does not wait here.
    """

    async def dial(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        return ANSWERS.get(kind, b"console\n\xff\n")

    async def open(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> "OneWord":
        return OneWord(SAMPLE if kind == "stats" else b"word\n")

    def alive(self) -> frozenset[str]:
        return frozenset({HOST})

    def connected(self) -> frozenset[str]:
        return frozenset()

    def facts(self, host_id: str) -> dict[str, Any]:
        return {"architecture": "x86_64", "is_virtual": True}


class OneWord:
    """A stream of a guest that says one word and ends."""

    def __init__(self, word: bytes) -> None:
        self.started, self.exit_code, self._word = Started(1), 0, word

    async def __aiter__(self) -> AsyncIterator[tuple[Channel, bytes]]:
        yield Channel.STDOUT, self._word

    async def send(self, data: bytes) -> None: ...

    async def control(self, message: FromClient) -> None: ...

    async def close(self) -> None: ...


def join(conn: Any) -> None:
    hello = Hello(
        protocol_min=1,
        protocol_max=1,
        host_id=HOST,
        hostname="fuzz",
        boot_id="b",
        hypervisor_type="nacre",
        runtimes=("container",),
        capacity=Capacity(vcpus=64, memory_mb=65_536, disk_gb=1000),
        facts={},
    )
    hosts.register(conn, hello)


@dataclass
class Books:
    """The database from outside: what a refused request must not change."""

    url: str
    digests: dict[str, int] = field(default_factory=dict)
    version: Any = 0

    def __post_init__(self) -> None:
        self.db: Any
        if self.url.startswith("postgresql"):
            import psycopg

            self.db = psycopg.connect(self.url, autocommit=True)
            self.state, names = (
                "SELECT pg_current_snapshot()::text",
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
            )
            self.rows = 'SELECT t::text FROM "{}" t'
        else:
            path = self.url.removeprefix("sqlite:///")
            self.db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
            self.state, names = "PRAGMA data_version", "SELECT name FROM sqlite_master WHERE type='table'"
            self.rows = 'SELECT * FROM "{}"'
        self.tables = [name for (name,) in self.db.execute(names)]
        self.changes()

    def changes(self) -> list[str]:
        """The tables whose rows have changed since the last call."""
        (version,) = self.db.execute(self.state).fetchone()
        if version == self.version:
            return []
        # Another version may still be the same content: SQLite also counts its log's turning over.
        self.version = version
        digests = {name: hash(frozenset(self.db.execute(self.rows.format(name)))) for name in self.tables}
        before, self.digests = self.digests, digests
        return [name for name in digests if digests[name] != before.get(name)]


@dataclass
class Fuzzer:
    cloud: RunningCloud
    random: Random
    books: Books
    things: dict[str, list[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seen: Counter[int] = field(default_factory=Counter)
    reached: dict[str, Counter[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.address = self.cloud.base_url.removeprefix("http://")
        self.connection = http.client.HTTPConnection(self.address, timeout=30)
        self.tokens = {**self.cloud.tokens, "forged": "gAAAAABforged", "none": ""}

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        """One request. An answer that breaks the connection off is as bad as a 500: it is returned as UNANSWERED."""
        try:
            self.connection.request(method, target, body, headers)
            answer = self.connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except (http.client.HTTPException, OSError) as error:
            self.connection.close()
            return UNANSWERED, {}, f"{type(error).__name__}: {error}".encode()

    def headers(self, caller: str) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.tokens[caller]:
            headers["X-Auth-Token"] = self.tokens[caller]
        return headers

    def log_in(self) -> None:
        """Fresh tokens for all actors."""
        for name, actor in ACTORS.items():
            user = {"id": actor.user_id, "password": actor.password}
            identity = {"methods": ["password"], "password": {"user": user}}
            body = {"auth": {"identity": identity, "scope": {"project": {"id": actor.project_id}}}}
            status, headers, answer = self.send("POST", "/identity/v3/auth/tokens", self.headers("none"), values.dumps(body))
            assert status == 201, answer
            self.tokens[name] = self.cloud.tokens[name] = headers["x-subject-token"]

    # The world that the fuzz walks through.

    def make_things(self) -> None:
        external = self.made("admin", "/network/v2.0/networks", "network", {"name": "out", "router:external": True})
        subnet = {"network_id": external, "ip_version": 4, "cidr": "203.0.113.0/24"}
        self.made("admin", "/network/v2.0/subnets", "subnet", subnet)
        self.things["external_id"] = [external]
        full = self.uploaded()
        for number in range(COPIES):
            for parameter, actor, path, key, body in things.THINGS:
                good = self.filled(body, number)
                self.things.setdefault(parameter, []).insert(0, self.made(actor, path, key, good))
                self.things["image_id"] = [full, *self.things.get("image_id", [])]
        self.things |= {
            "check": ["c", "service:s"],
            "service": ["s", "web"],
            "node": ["n", "nacre"],
            "state": ["any", "critical"],
        }
        for actor in ("admin", "member", "other"):
            # A project's agent is there from the first look on.
            self.send("GET", "/v1/catalog/nodes", self.headers(actor), None)
        self.things["member_id"] = [ACTORS["other"].project_id]
        self.things["quota_project_id"] = self.things["project_id"]
        self.things["group_id"] = [*self.things["group_id"], *self.things["security_group_id"]]
        self.things["rule_id"] = self.things["security_group_rule_id"]
        for name in ("hypervisor_id", "service_id", "uuid"):
            self.things[name] = [*self.things.get(name, []), HOST]
        self.things["consumer_uuid"] = self.things["server_id"]
        self.things |= {
            "key": ["a", "b"],
            "tag": ["a", "b"],
            "name": ["HW_CPU_X86_VMX", "VCPU", "full", "demo/full"],
            "resource_class": ["VCPU"],
        }
        self.things |= {"class_name": ["default"], "network_label": ["fuzz"], "alias": ["router"], "agent_id": [HOST]}
        namespace = bodies.NAMESPACE | {
            "tags": [{"name": "t"}],
            "objects": [{"name": "o"}],
            "properties": {"p": bodies.DEFINITION},
        }
        status, _, answer = self.send("POST", bodies.METADEFS, self.headers("admin"), values.dumps(namespace))
        assert status == 201, answer
        self.things |= {
            "namespace": ["fuzz"],
            "object_name": ["o"],
            "property_name": ["p"],
            "tag_name": ["t"],
            "store": ["nacre"],
        }
        self.things["resource_id"] = [
            self.things[name][0] for name in ("network_id", "subnet_id", "port_id", "router_id", "floatingip_id", "subnetpool_id")
        ]
        self.books.changes()

    def made(self, actor: str, path: str, key: str, body: Any) -> str:
        whole = {key: body} if key else body
        status, _, answer = self.send("POST", path, self.headers(actor), values.dumps(whole))
        assert status in (200, 201, 202), (path, status, answer)
        shown = json.loads(answer)
        shown = shown[key] if key else shown
        return str(shown["name"] if key == "keypair" else shown["id"])

    def uploaded(self) -> str:
        """An image with bytes in it, of which servers are made."""
        ident = self.made("member", "/image/v2/images", "", {"name": "full", "disk_format": "raw", "container_format": "docker"})
        headers = {**self.headers("member"), "Content-Type": "application/octet-stream"}
        status, _, answer = self.send("PUT", f"/image/v2/images/{ident}/file", headers, b"\0" * 1024)
        assert status == 204, answer
        return ident

    def filled(self, body: Any, number: int = 0) -> Any:
        """A good body with the ids of things in it."""
        text = json.dumps(body).replace("{n}", str(number + 1))
        return json.loads(re.sub(r"\{(\w+_(?:id|name))\}", lambda match: self.thing(match[1]), text))

    def thing(self, parameter: str) -> str:
        return self.things.get(parameter, ["nothing"])[0]

    def path(self, service: Service, route: Route) -> str:
        """The route's path with real things in it, or with what is none."""

        def segment(match: re.Match[str]) -> str:
            real = self.things.get(match[1], [])
            if real and self.random.random() < 0.75:
                return quote(self.random.choice(real), safe="")
            return self.random.choice(values.SEGMENTS)

        return service.prefix + re.sub(r"\{(\w+)(?::[^{}]*)?\}", segment, route.path)

    def body(self, service: Service, route: Route) -> bytes | None:
        goods = bodies.bodies_of(route.method, service.prefix + route.path)
        kind = self.random.random()
        if kind < 0.2 or (not goods and kind < 0.5):
            return self.random.choice(values.BODIES)
        if not goods:
            return None if kind < 0.8 else values.dumps(self.random.choice(values.VALUES))
        good = self.filled(self.random.choice(goods))
        return values.dumps(good if kind > 0.95 else values.spoil(self.random, good))

    def request_headers(self, service: Service, route: Route, caller: str) -> dict[str, str]:
        headers = self.headers(caller)
        if service.microversions is not None:
            low = route.since or service.microversions.minimum
            high = route.until or service.microversions.maximum
            minor = self.random.choice((low.minor, high.minor, self.random.randint(low.minor, high.minor)))
            headers["OpenStack-API-Version"] = f"{service.microversions.service_type} {low.major}.{minor}"
        if "/auth/tokens" in route.path and self.random.random() < 0.5:
            headers["X-Subject-Token"] = self.tokens["reader"] if route.method != "DELETE" else "forged"
        if self.random.random() < 0.12:
            name, value = self.random.choice(values.HEADERS)
            headers[name] = value
        return headers

    def attack(self, service: Service, route: Route) -> None:
        """One request to one route, and a verdict on what comes back."""
        caller = self.random.choice(CALLERS)
        headers = self.request_headers(service, route, caller)
        target = self.path(service, route) + values.query(self.random)
        if service.service_type == "docker" and route.path == "/events":
            target = f"{self.path(service, route)}?until=1&{values.query(self.random).removeprefix('?')}"  # Or it has no end.
        writes = route.method in ("POST", "PUT", "PATCH")
        body = self.body(service, route) if writes else None
        status, answer_headers, answer = self.send(route.method, target, headers, body)
        self.seen[status] += 1
        self.reached.setdefault(f"{route.method} {service.prefix}{route.path}", Counter())[status] += 1
        wrong = self.verdict(service, route, status, answer_headers, answer)
        changed = self.books.changes()
        if status == UNANSWERED and service.service_type == "docker" and route.handler.__module__ == lifecycle.__name__:
            return  # It waits for the host's word, and this host has no node.
        if status >= 400 and changed:
            wrong = f"refused with {status}, and yet rows have changed: {changed}"
        if wrong:
            odd = {name: value[:80] for name, value in headers.items() if name != "X-Auth-Token"}
            shown = None if body is None else body[:300]
            self.failures.append(f"{caller} {route.method} {target[:300]} {odd} {shown!r}: {wrong}")

    def verdict(self, service: Service, route: Route, status: int, headers: dict[str, str], answer: bytes) -> str | None:
        if status == 503 and route.path.startswith("/agent/health/"):
            return None  # How the service is, said in numbers of HTTP's.
        if status == 503 and route.handler.__module__ == swarm.__name__:
            return None  # As an engine answers that is in no swarm.
        if status == 500 and any(words in answer for words in DOCKERS_500):
            return None
        if status >= 500:
            return f"{status} {answer[:300]!r}"
        if status < 400 or route.method == "HEAD":
            return None
        if service.service_type == "consul" and headers.get("content-type", "").startswith("text/plain"):
            return None
        try:
            fine = is_error(service, status, json.loads(answer))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            fine = False
        if not fine or not headers.get("content-type", "").startswith("application/json"):
            return f"{status} is not in the dialect's shape: {headers.get('content-type')} {answer[:200]!r}"
        return None


@pytest.fixture
def fuzzer(cloud: RunningCloud) -> Fuzzer:
    seed = int(os.environ.get("NACRE_FUZZ_SEED", "1"))
    print(f"NACRE_FUZZ_SEED={seed}")
    cloud.cloud.hosts = OneHost()
    store = Store(cloud.store_url)
    asyncio.run(store.write(join))
    store.close()
    made = Fuzzer(cloud, Random(seed), Books(cloud.store_url))
    made.make_things()
    return made


def weight(service: Service, route: Route) -> int:
    if route.method in ("GET", "HEAD"):
        return SENT_PER_READ
    return SENT_PER_BODY if bodies.bodies_of(route.method, service.prefix + route.path) else SENT_PER_WRITE


def test_no_request_breaks_anything(fuzzer: Fuzzer) -> None:
    rows = [(service, route) for service in SERVICES for route in service.routes]
    # What takes things away comes last, so that there is something to speak to until then.
    rows.sort(key=lambda row: row[1].method == "DELETE" or row[1].path.endswith("/action"))
    for _ in range(ROUNDS):
        for service, route in rows:
            for _ in range(weight(service, route)):
                if len(fuzzer.failures) < FAILURES_MAX:
                    fuzzer.attack(service, route)
                    if route.path.endswith("/keys/rotate"):
                        # Rotated again and again, the keys forget those that signed the tokens: as they should.
                        fuzzer.log_in()
    print(f"{sum(fuzzer.seen.values())} requests to {len(rows)} routes: {dict(sorted(fuzzer.seen.items()))}")
    assert not fuzzer.failures, "\n".join(fuzzer.failures)
    # The fuzz has not locked itself out, and most of what it sent went further than the door.
    assert fuzzer.cloud.client("admin")("GET", "/identity/v3/auth/catalog").status == 200
    beyond = [name for name, statuses in fuzzer.reached.items() if set(statuses) - {401, 403}]
    assert len(beyond) > 0.95 * len(fuzzer.reached), sorted(set(fuzzer.reached) - set(beyond))


def test_no_body_is_for_a_route_that_is_gone() -> None:
    """A body that no route takes any more is a table that has gone stale."""
    known = {(route.method, service.prefix + route.path) for service in SERVICES for route in service.routes}
    assert set(bodies.BODIES) <= known | _items()


def _items() -> set[tuple[str, str]]:
    """Methods that a collection's dialect does not use for changes, or things that do not change."""
    return {(method, f"{path}/{{{parameter}}}") for parameter, _, path, _, _ in things.THINGS for method in ("PUT", "PATCH")}
