"""An nftables table as data, and the commands that lead from what it was to what it shall be, as one transaction.

A packet sees the table before or after, never between: a chain that changes is flushed and filled within the transaction.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct


class Collection(Struct, frozen=True):
    """A set or a map. Elements by their key; the value is the whole element as it is written (`key comment "x" : value`)."""

    kind: str
    """set, map, or a counter by its name, which has no elements."""
    type: str
    """What stands in the declaration: `type ifname : mark`."""
    elements: Mapping[str, str] = {}


class Chain(Struct, frozen=True):
    rules: tuple[str, ...]
    hook: str = ""
    """`type filter hook forward priority 0; policy accept;` for a base chain. The policy is always accept and the last rule drops:
    a policy of drop would hold before the rules do."""


class Table(Struct, frozen=True):
    """One nftables table with its collections and chains."""

    family: str
    name: str
    collections: Mapping[str, Collection]
    chains: Mapping[str, Chain]

    @property
    def address(self) -> str:
        return f"{self.family} {self.name}"


ELEMENTS_PER_COMMAND = 512


def members(keys: list[str]) -> dict[str, str]:
    """Elements of a set, which are their own keys."""
    return {key: key for key in keys}


def replace(table: Table) -> str:
    """Make the table anew whatever was there, in one transaction."""
    return "\n".join([f"table {table.address}", f"delete table {table.address}", *_build(table)]) + "\n"


def difference(old: Table, new: Table) -> str:
    """What leads from `old` to `new`; the empty text when nothing does."""
    return "".join(f"{command}\n" for command in _changes(old, new))


def delete(family: str, name: str) -> str:
    """Delete the table, also where there is none."""
    return f"table {family} {name}\ndelete table {family} {name}\n"


def _build(table: Table) -> Iterator[str]:
    yield f"add table {table.address}"
    empty = Table(table.family, table.name, {}, {})
    yield from _changes(empty, table)


def _changes(old: Table, new: Table) -> Iterator[str]:
    """The order matters: what is referred to comes before and goes after what refers to it."""
    for name, collection in new.collections.items():
        if name not in old.collections:
            yield f"add {collection.kind} {new.address} {name} {{ {collection.type}\n}}"
    for name, chain in new.chains.items():
        if name not in old.chains:
            hook = f" {{ {chain.hook} }}" if chain.hook else ""
            yield f"add chain {new.address} {name}{hook}"
    for name, collection in new.collections.items():
        before = old.collections[name].elements if name in old.collections else {}
        yield from _element_changes(f"{new.address} {name}", before, collection.elements)
    for name, chain in new.chains.items():
        before_rules = old.chains[name].rules if name in old.chains else ()
        if before_rules != chain.rules:
            if before_rules:
                yield f"flush chain {new.address} {name}"
            yield from (f"add rule {new.address} {name} {rule}" for rule in chain.rules)
    doomed = [name for name in old.chains if name not in new.chains]
    yield from (f"flush chain {new.address} {name}" for name in doomed)
    yield from (f"delete chain {new.address} {name}" for name in doomed)
    yield from (
        f"delete {old.collections[name].kind} {new.address} {name}" for name in old.collections if name not in new.collections
    )


def element_changes(where: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The commands for the elements of one set or map (`bridge NAME SET`)."""
    return "".join(f"{command}\n" for command in _element_changes(where, before, after))


def _element_changes(where: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    gone = [key for key, text in before.items() if after.get(key) != text]
    come = [text for key, text in after.items() if before.get(key) != text]
    for verb, texts in (("delete", gone), ("add", come)):
        for start in range(0, len(texts), ELEMENTS_PER_COMMAND):
            yield f"{verb} element {where} {{ {', '.join(texts[start : start + ELEMENTS_PER_COMMAND])} }}"
