"""The hosts of a cloud, kept so that planning looks at few of them: it chooses what `plan.scan` would, and counts what that would count.

Healthy hosts are in pools, by their kind: what whole-kind filters look at is the same for all of a pool, so one look tells for all. A pool is
sorted by how used its hosts are, in blocks; each block knows the most and the least that any of its hosts has left, so that blocks without
room are passed over, and those where all have room are counted at once. Hosts that fail health are kept aside.
Only Swarm's expressions, `capabilities` and the like need a look at each host: such requests go by the plain scan.
"""

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator
from heapq import merge
from itertools import accumulate, islice
from math import floor
from typing import NamedTuple

from nacre.cloud.scheduler.conditions import SLOT, SLOTS_STAGE, Unsatisfied, has_slot, slots_of
from nacre.cloud.scheduler.filters import HEALTH, KIND, PLACE, ROOM
from nacre.cloud.scheduler.plan import BEST_MAX, NAMED_MAX, Dropped, NoValidHost, Plan, scan
from nacre.cloud.scheduler.snapshot import NO_CONDITIONS, HostView, Request, Strategy
from nacre.cloud.scheduler.strategies import RANKED, SOFT_POLICIES, Key, key, ordered

BLOCK_HOSTS_MAX = 96
"""A block with more is split."""
GUESSES_MAX = 200
"""Looks at a host by chance, before all that fit are listed, to take some by chance."""
HEALTHY = "healthy"

Kind = tuple[object, ...]
Room = tuple[int, int, int]
"""vCPUs, memory and disk."""
_ROOM_CHECKS = tuple((name, passes) for name, (_, passes) in ROOM.items())


def kind_of(host: HostView) -> Kind:
    """What the filters of KIND look at, and the strategy."""
    return (
        host.availability_zone,
        host.runtimes,
        host.hypervisor_type,
        host.architecture,
        host.traits,
        host.aggregates,
        host.strategy,
    )


def _health(host: HostView, request: Request) -> str:
    return next((name for name, (_, passes) in HEALTH.items() if not passes(host, request)), HEALTHY)


def free(host: HostView) -> Room:
    """What is left of it. A guest fits when its size, in whole numbers, is no more than this, exactly as the filters of ROOM say."""
    return (
        floor(host.vcpus) - host.claimed_vcpus,
        floor(host.memory_mb) - host.claimed_memory_mb,
        floor(host.disk_gb) - host.claimed_disk_gb,
    )


def _within(wanted: Room, room: Room) -> bool:
    return wanted[0] <= room[0] and wanted[1] <= room[1] and wanted[2] <= room[2]


def has_room(host: HostView, request: Request) -> bool:
    return all(passes(host, request) for _, passes in _ROOM_CHECKS)


class Entry(NamedTuple):
    """A host in a block. Keys differ by the host's id, so hosts are never compared."""

    key: Key
    host: HostView
    room: Room


class Block:
    """Up to BLOCK_HOSTS_MAX hosts in the order of their keys."""

    __slots__ = ("_bounds", "entries", "slotted")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._bounds: tuple[Room, Room] | None = None
        self.slotted = False
        """Whether a label limits the guests of any; known once the bounds are."""

    def changed(self) -> None:
        self._bounds = None

    def bounds(self) -> tuple[Room, Room]:
        """The least and the most that any host has left of each."""
        if self._bounds is None:
            vcpus, memory, disk = zip(*[entry.room for entry in self.entries], strict=True)
            self._bounds = (min(vcpus), min(memory), min(disk)), (max(vcpus), max(memory), max(disk))
            self.slotted = any(entry.host.labels and slots_of(entry.host) is not None for entry in self.entries)
        return self._bounds


class Pool:
    """The healthy hosts of one kind."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._last: list[Key] = []
        """The greatest key of each block."""
        self.count = 0

    @property
    def sample(self) -> HostView:
        return self.blocks[0].entries[0].host

    def add(self, entry: Entry) -> None:
        self.count += 1
        if not self.blocks:
            self.blocks.append(Block([entry]))
            self._last.append(entry.key)
            return
        number = min(bisect_left(self._last, entry.key), len(self.blocks) - 1)
        block = self.blocks[number]
        insort(block.entries, entry)
        block.changed()
        if len(block.entries) > BLOCK_HOSTS_MAX:
            half = len(block.entries) // 2
            self.blocks.insert(number + 1, Block(block.entries[half:]))
            self._last.insert(number + 1, self._last[number])
            del block.entries[half:]
        self._last[number] = block.entries[-1].key

    def remove(self, entry: Entry) -> None:
        number = bisect_left(self._last, entry.key)
        block = self.blocks[number]
        del block.entries[bisect_left(block.entries, entry)]
        block.changed()
        self.count -= 1
        if block.entries:
            self._last[number] = block.entries[-1].key
        else:
            del self.blocks[number], self._last[number]

    def hosts(self) -> Iterator[HostView]:
        return (entry.host for block in self.blocks for entry in block.entries)

    def fitting(self, request: Request, *, fullest_first: bool) -> Iterator[Entry]:
        """Those with room and a slot, in the order of their keys."""
        wanted = (request.vcpus, request.memory_mb, request.disk_gb)
        for block in reversed(self.blocks) if fullest_first else self.blocks:
            least, most = block.bounds()
            if not _within(wanted, most):
                continue
            all_fit = not block.slotted and _within(wanted, least)
            for entry in reversed(block.entries) if fullest_first else block.entries:
                if all_fit or (has_room(entry.host, request) and has_slot(entry.host)):
                    yield entry

    def drop(self, request: Request, dropped: Dropped, without: Collection[str]) -> None:
        """Count those that are short of something. `without` are hosts that were dropped before."""
        wanted = (request.vcpus, request.memory_mb, request.disk_gb)
        for block in self.blocks:
            least, _ = block.bounds()
            if block.slotted or not _within(wanted, least):
                _drop_each((entry.host for entry in block.entries if entry.host.id not in without), request, dropped)


def _drop_each(hosts: Iterable[HostView], request: Request, dropped: Dropped) -> list[HostView]:
    """Count each that is short of something; the others."""
    left = []
    for host in hosts:
        for name, passes in _ROOM_CHECKS:
            if not passes(host, request):
                dropped.add(name, (host,))
                break
        else:
            if has_slot(host):
                left.append(host)
            else:
                dropped.add(SLOT.lacking, (host,))
    return left


class Snapshot:
    """All hosts. Not for several threads at once."""

    def __init__(self, hosts: Iterable[HostView] = ()) -> None:
        self._hosts: dict[str, HostView] = {}
        self._names: dict[str, str] = {}
        """Host name -> id."""
        self._places: dict[str, tuple[Pool, Kind, Entry] | str] = {}
        """Host id -> its pool, or the filter of HEALTH that drops it."""
        self._pools: dict[Kind, Pool] = {}
        self._aside: dict[str, dict[str, HostView]] = {name: {} for name in HEALTH}
        for host in hosts:
            self.put(host)

    def __len__(self) -> int:
        return len(self._hosts)

    def __contains__(self, host_id: str) -> bool:
        return host_id in self._hosts

    def get(self, host_id: str) -> HostView | None:
        return self._hosts.get(host_id)

    def hosts(self) -> Iterable[HostView]:
        return self._hosts.values()

    def put(self, host: HostView) -> None:
        """A host that is new, or has changed."""
        if host.id in self._hosts:
            self.drop(host.id)
        self._hosts[host.id] = host
        self._names[host.hostname] = host.id
        health = _health(host, _ANY)
        if health != HEALTHY:
            self._aside[health][host.id] = host
            self._places[host.id] = health
            return
        kind, entry = kind_of(host), Entry(key(host), host, free(host))
        pool = self._pools.setdefault(kind, Pool())
        pool.add(entry)
        self._places[host.id] = pool, kind, entry

    def drop(self, host_id: str) -> None:
        host = self._hosts.pop(host_id)
        self._names.pop(host.hostname, None)
        place = self._places.pop(host_id)
        if isinstance(place, str):
            del self._aside[place][host_id]
            return
        pool, kind, entry = place
        pool.remove(entry)
        if not pool.count:
            del self._pools[kind]

    def plan(self, request: Request) -> Plan:
        """As `scan` of all hosts, with no more of them than BEST_MAX. Raises what it raises."""
        if request.conditions != NO_CONDITIONS or request.demands.capabilities:
            found = scan(tuple(self._hosts.values()), request)
            return Plan(found.best[:BEST_MAX], found.hosts, found.dropped)
        dropped = Dropped()
        for name, aside in self._aside.items():
            dropped.count(name, len(aside), tuple(islice(aside.values(), NAMED_MAX)))
        pools = self._eligible(request, dropped)
        few = self._few(request)
        best = self._best(request, pools, dropped) if few is None else self._best_of(request, pools, few, dropped)
        if not best:
            raise NoValidHost(dropped, len(self._hosts), request, _unsatisfied(dropped))
        return Plan(best, len(self._hosts), dropped.in_order())

    def _eligible(self, request: Request, dropped: Dropped) -> list[Pool]:
        """The pools of the right kinds."""
        eligible = []
        for pool in self._pools.values():
            sample = pool.sample
            for name, (_, passes) in KIND.items():
                if not passes(sample, request):
                    dropped.count(name, pool.count, tuple(islice(pool.hosts(), NAMED_MAX)))
                    break
            else:
                eligible.append(pool)
        return eligible

    def _few(self, request: Request) -> Collection[str] | None:
        """The ids of the only hosts that can take it, where the request says so."""
        if request.host is not None:
            return {ident for ident in (request.host, self._names.get(request.host)) if ident in self._hosts}
        if request.group_policy == "affinity" and request.group_hosts:
            return request.group_hosts
        return None

    def _best_of(self, request: Request, pools: list[Pool], few: Collection[str], dropped: Dropped) -> list[HostView]:
        """Of those few, where all others fail the filter that made them few."""
        left_out = self._members(pools, request.without)
        dropped.add("without", left_out)
        hosts = [host for host in self._members(pools, few) if host.id not in request.without]
        total = sum(pool.count for pool in pools) - len(left_out)
        for name in ("host", "group"):
            _, passes = PLACE[name]
            left = [host for host in hosts if passes(host, request)]
            if (name == "host") == (request.host is not None):
                dropped.count(name, total - len(left), self._others(pools, request.without.union(host.id for host in left)))
            else:
                dropped.add(name, [host for host in hosts if not passes(host, request)])
            hosts = left
        return ordered(_drop_each(hosts, request, dropped), request)[:BEST_MAX]

    def _members(self, pools: list[Pool], idents: Iterable[str]) -> list[HostView]:
        """Those of the hosts that are in one of the pools."""
        found = []
        for ident in idents:
            place = self._places.get(ident)
            if place is not None and not isinstance(place, str) and place[0] in pools:
                found.append(place[2].host)
        return found

    def _others(self, pools: list[Pool], but: Collection[str]) -> list[HostView]:
        return list(islice((host for pool in pools for host in pool.hosts() if host.id not in but), NAMED_MAX))

    def _best(self, request: Request, pools: list[Pool], dropped: Dropped) -> list[HostView]:
        """Of all hosts of the pools. Those that bear members of the server group are looked at one by one."""
        dropped.add("without", self._members(pools, request.without))
        members = set(request.group_hosts) - request.without if request.group_policy else set()
        peopled = self._members(pools, members)
        _, agrees = PLACE["group"]
        unfit = {host.id for host in peopled if not agrees(host, request)}
        dropped.add("group", [host for host in peopled if host.id in unfit])
        refused = request.without | unfit
        for pool in pools:
            pool.drop(request, dropped, refused)
        if request.group_policy not in SOFT_POLICIES:
            return self._walk(request, pools, refused)
        apart = ordered((host for host in peopled if has_room(host, request) and has_slot(host)), request)
        others = self._walk(request, pools, refused.union(host.id for host in peopled))
        return (apart + others if request.group_policy == "soft-affinity" else others + apart)[:BEST_MAX]

    def _walk(self, request: Request, pools: list[Pool], without: Collection[str]) -> list[HostView]:
        """The best few that fit."""
        best: list[HostView] = []
        for strategy in RANKED:
            same = [pool for pool in pools if (pool.sample.strategy or request.strategy) == strategy]
            if same and len(best) < BEST_MAX:
                best += islice(_in_order(same, request, strategy, without), BEST_MAX - len(best))
        return best


def _in_order(pools: list[Pool], request: Request, strategy: Strategy, without: Collection[str]) -> Iterator[HostView]:
    if strategy == "random":
        yield from _by_chance(pools, request, without)
        return
    packing = strategy == "binpack"
    walks = [pool.fitting(request, fullest_first=packing) for pool in pools]
    entries = walks[0] if len(walks) == 1 else merge(*walks, key=lambda entry: entry.key, reverse=packing)
    yield from (entry.host for entry in entries if entry.host.id not in without)


def _by_chance(pools: list[Pool], request: Request, without: Collection[str]) -> Iterator[HostView]:
    """Each that fits is as likely as any other."""
    blocks = [block for pool in pools for block in pool.blocks]
    ends = list(accumulate(len(block.entries) for block in blocks))
    seen = set(without)
    for place in random.sample(range(ends[-1]), min(GUESSES_MAX, ends[-1])):
        number = bisect_right(ends, place)
        host = blocks[number].entries[place - ends[number]].host
        if host.id not in seen and has_room(host, request) and has_slot(host):
            yield host
        seen.add(host.id)
    rest = [entry.host for pool in pools for entry in pool.fitting(request, fullest_first=False) if entry.host.id not in seen]
    random.shuffle(rest)
    yield from rest


def _unsatisfied(dropped: Dropped) -> Unsatisfied | None:
    """Where all that had room lacked a slot."""
    return Unsatisfied(SLOTS_STAGE, SLOT.wanted) if SLOT.lacking in dropped.counts else None


_ANY = Request(0, 0, 0, frozenset())
