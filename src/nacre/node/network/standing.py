"""What stands in the kernel of a table, in our own terms: so that a new process goes on by difference and replaces nothing.

A table that is replaced costs packets. Its maps are empty for whoever is still on the way through its old chains when the new one
takes its place: the guard finds no mark for such a packet and drops it. (Seen as one lost ping in some hundred restarts.)

Rules are compared as nftables itself writes them: the wanted chains are made once more in a table of their own, without hooks, where no
packet comes, and both are read.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from nacre.node.network.nft import Nft, NftError
from nacre.node.network.tables import Chain, Collection, Table, delete, difference, replace

Listed = dict[str, Any]

_HOOK = re.compile(r"type (\w+) hook (\w+) priority (\S+); policy (\w+);")
_PRIORITIES = {"dstnat": -100, "srcnat": 100}
_OTHER_RULES = ("?",)
"""Stands for the rules of a chain that are not the wanted ones: it is filled anew, or goes."""
_PLACE = frozenset({"family", "table", "handle", "name", "chain", "elem", "packets", "bytes"})
KINDS = ("set", "map", "counter")


def standing(nft: Nft, wanted: Table) -> Table | None:
    """The table as the kernel has it. None where it is not there, or is so different that it has to be replaced."""
    try:
        listed = nft.read(f"list table {wanted.address}")
        model = _model(nft, wanted)
    except NftError:
        return None
    there, here = _collections(listed), _collections(model)
    if any(_declared(there[name]) != _declared(here[name]) for name in there.keys() & here.keys()):
        return None
    chains, hooks = _chains(listed)
    made, _ = _chains(model)
    if any(hooks[name] != _hook(wanted.chains[name]) for name in hooks.keys() & wanted.chains.keys()):
        return None
    return Table(
        wanted.family,
        wanted.name,
        {name: _collection(found, wanted.collections.get(name)) for name, found in there.items()},
        {name: _chain(rules, made.get(name), wanted.chains.get(name)) for name, rules in chains.items()},
    )


def make(nft: Nft, *wanted: Table) -> None:
    """Make the tables so, whatever is there, in one transaction. Raises NftError."""
    there = [(standing(nft, table), table) for table in wanted]
    commands = "".join(replace(table) if old is None else difference(old, table) for old, table in there)
    if not commands:
        return
    try:
        nft.run(commands)
    except NftError:
        # Somebody else changes what was read just now, or put in what we cannot take out.
        nft.run("".join(replace(table) for table in wanted))


def model_name(name: str) -> str:
    return f"{name}_model"


def _model(nft: Nft, wanted: Table) -> list[Listed]:
    """The wanted table without elements and hooks, as nftables shows it. It is gone again when this returns."""
    model = Table(
        wanted.family,
        model_name(wanted.name),
        {name: Collection(found.kind, found.type) for name, found in wanted.collections.items()},
        {name: Chain(chain.rules) for name, chain in wanted.chains.items()},
    )
    nft.run(replace(model))
    try:
        return nft.read(f"list table {model.address}")
    finally:
        with contextlib.suppress(NftError):
            nft.run(delete(model.family, model.name))


def _collections(listed: list[Listed]) -> dict[str, Listed]:
    return {item[kind]["name"]: {**item[kind], "kind": kind} for item in listed for kind in KINDS if kind in item}


def _declared(found: Listed) -> Listed:
    return {name: value for name, value in found.items() if name not in _PLACE}


def _chains(listed: list[Listed]) -> tuple[dict[str, list[str]], dict[str, tuple[Any, ...] | None]]:
    """By chain its rules, as text that can be compared, and its hook."""
    rules: dict[str, list[str]] = {}
    hooks: dict[str, tuple[Any, ...] | None] = {}
    for item in listed:
        if chain := item.get("chain"):
            rules[chain["name"]] = []
            hooks[chain["name"]] = tuple(chain[key] for key in ("type", "hook", "prio", "policy")) if "hook" in chain else None
        elif rule := item.get("rule"):
            said = {name: value for name, value in rule.items() if name not in _PLACE}
            rules[rule["chain"]].append(json.dumps(_uncounted(said), sort_keys=True))
    return rules, hooks


def _uncounted(value: Any) -> Any:
    """A rule without what its counters have counted."""
    if isinstance(value, dict):
        return {name: None if name == "counter" else _uncounted(each) for name, each in value.items()}
    return [_uncounted(each) for each in value] if isinstance(value, list) else value


def _hook(chain: Chain) -> tuple[Any, ...] | None:
    parsed = _HOOK.match(chain.hook)
    if parsed is None:
        return None
    kind, hook, priority, policy = parsed.groups()
    return kind, hook, _PRIORITIES[priority] if priority in _PRIORITIES else int(priority), policy


def _chain(rules: list[str], made: list[str] | None, wanted: Chain | None) -> Chain:
    if wanted is not None and rules == made:
        return wanted
    return Chain(_OTHER_RULES, wanted.hook if wanted else "")


def _collection(found: Listed, wanted: Collection | None) -> Collection:
    kind = found["kind"]
    # What a rule puts into a set by itself is none of our elements.
    elements = {} if "timeout" in found else dict(_element(each, kind, found["type"]) for each in found.get("elem", ()))
    return Collection(kind, wanted.type if wanted else "", elements)


def _element(found: Any, kind: str, types: Any) -> tuple[str, str]:
    """An element's key and its whole text, as `Collection` has them."""
    key, value = found if kind == "map" else (found, None)
    names = types if isinstance(types, list) else [types]
    comment = ""
    if isinstance(key, dict) and "elem" in key:
        comment = f' comment "{key["elem"]["comment"]}"' if "comment" in key["elem"] else ""
        key = key["elem"]["val"]
    text = _text(key, names)
    return text, text if value is None else f"{text}{comment} : {_text(value, ())}"


def _text(value: Any, types: Iterable[str]) -> str:
    names = list(types)
    if isinstance(value, Mapping):
        if "concat" in value:
            parts = value["concat"]
            of_parts = [[name] for name in names] if len(names) == len(parts) else [[] for _ in parts]
            return " . ".join(_text(part, of) for part, of in zip(parts, of_parts, strict=True))
        if "prefix" in value:
            return f"{value['prefix']['addr']}/{value['prefix']['len']}"
        if "range" in value:
            return "-".join(_text(end, ()) for end in value["range"])
        for verdict in ("goto", "jump"):
            if verdict in value:
                return f"{verdict} {value[verdict]['target']}"
        return str(next(iter(value), ""))
    return f'"{value}"' if names == ["ifname"] else str(value)
