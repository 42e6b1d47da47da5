"""Queries that may wait (https://developer.hashicorp.com/consul/api-docs/features/blocking): `?index=N&wait=10s` answers once what is asked
for has changed after N, or when the time is over.

Who waits is woken by the store's announcement of what it reads, and reads again; all that wake together share one reading.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.discovery import durations
from nacre.cloud.discovery.indexes import Found, Span, topic_of
from nacre.cloud.errors import CloudError, Invalid
from nacre.panes.consul.dialect import check_datacenter, check_parameters, flag, number, shown
from nacre.panes.edge import Call, Reply

WAIT_S_DEFAULT, WAIT_S_MAX = 300.0, 600.0
JITTER = 1 / 16
"""Up to so much of the wait is added, so that those who began together do not come back together."""
WAITERS_MAX = 2048
"""Queries of one project that wait at the same time."""
LOOK_EVERY_S = 5.0
"""How often a query that waits looks whether its client is still there."""

Query = Callable[..., Found]
Interest = str | Span
"""A topic of the catalog, or a span of keys."""


class TooMany(CloudError):
    """429: too many queries of the project wait already."""


_waiting: Counter[tuple[int, str]] = Counter()
"""How many queries wait, by store and project."""


def consistency(call: Call) -> str:
    """Raises Invalid where two modes are asked for. There is one store: all of them read what was committed last."""
    if flag(call, "stale") and flag(call, "consistent"):
        raise Invalid("Cannot specify ?stale with ?consistent, conflicting semantics.")
    return "stale" if flag(call, "stale") else "consistent" if flag(call, "consistent") else "leader"


def headers_of(call: Call, index: int | None = None) -> dict[str, str]:
    headers = {
        "X-Consul-KnownLeader": "true",
        "X-Consul-LastContact": "0",
        "X-Consul-Effective-Consistency": consistency(call),
    }
    return headers if index is None else {"X-Consul-Index": str(max(1, index)), **headers}


async def found(call: Call, interests: Sequence[Interest], query: Query, *args: Any, filtered: bool = False) -> Found:
    """The answer to a query, waited for if the request says so. Raises TooMany."""
    check_datacenter(call)
    check_parameters(call, filtered=filtered)
    consistency(call)
    index = number(call, "index")
    if not index:
        return await call.read(query, *args)
    return await until_changed(call, interests, lambda seen: seen.index > index, query, *args)


async def until_changed(
    call: Call, interests: Sequence[Interest], enough: Callable[[Found], bool], query: Query, *args: Any
) -> Found:
    """Read again whenever something of interest has changed, until it is enough or the time is over."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _wait_s(call)
    key = (id(call.cloud.store), call.context.project_id or "")
    if _waiting[key] >= WAITERS_MAX:
        raise TooMany(f"{WAITERS_MAX} queries of the project wait already")
    woken = asyncio.Event()
    unwatch, unwatch_end = _watch(call, interests, woken), call.cloud.ending.watch(woken.set)
    _waiting[key] += 1
    try:
        while True:
            woken.clear()
            seen = call.remember(query, *args)
            rest_s = end_s - loop.time()
            if enough(seen) or rest_s <= 0 or call.cloud.ending.has_begun or not _is_there(call):
                return seen
            try:
                await asyncio.wait_for(woken.wait(), min(rest_s, LOOK_EVERY_S))
            except TimeoutError:
                continue
    finally:
        _waiting[key] -= 1
        if not _waiting[key]:
            del _waiting[key]
        unwatch()
        unwatch_end()


def _is_there(call: Call) -> bool:
    transport = call.request.transport
    return transport is not None and not transport.is_closing()


def _wait_s(call: Call) -> float:
    text = call.query.get("wait")
    if text and text.isascii() and text.isdigit():
        text += "s"
    wait_s = durations.nanoseconds(text, "wait") / 10**9 if text else WAIT_S_DEFAULT
    wait_s = min(wait_s, WAIT_S_MAX) if wait_s > 0 else WAIT_S_DEFAULT
    return wait_s + random.uniform(0, wait_s * JITTER)  # noqa: S311 - spread, not a secret


def _watch(call: Call, interests: Sequence[Interest], woken: asyncio.Event) -> Callable[[], None]:
    store, project_id = call.cloud.store, call.context.project_id or ""
    spans = [each for each in interests if isinstance(each, Span)]

    def wake(topic: str, value: Any) -> None:
        woken.set()

    def wake_if_met(topic: str, changed: Sequence[Sequence[Any]] | None) -> None:
        if changed is None or any(span.meets(Span(*other)) for span in spans for other in changed):
            woken.set()

    ends = [store.watch(topic_of(project_id, each), wake) for each in interests if isinstance(each, str)]
    if spans:
        ends.append(store.watch(topic_of(project_id, "kv"), wake_if_met))

    def unwatch() -> None:
        for end in ends:
            end()

    return unwatch


async def listed(
    call: Call, interests: Sequence[Interest], render: Callable[[Any], Any], query: Query, *args: Any, filtered: bool = False
) -> Reply:
    """A query whose answer is what `render` makes of its value. `filtered`: `render` minds the request's filter."""
    seen = await found(call, interests, query, *args, filtered=filtered)
    return shown(call, render(seen.value), headers=headers_of(call, seen.index))


def read_only(fn: Callable[[sa.Connection, Context], Any]) -> Query:
    """A query without an index of its own."""

    def query(conn: sa.Connection, ctx: Context) -> Found:
        return Found(0, fn(conn, ctx))

    return query
