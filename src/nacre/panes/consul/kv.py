"""Keys: GET, PUT, DELETE /v1/kv/KEY (https://developer.hashicorp.com/consul/api-docs/kv)."""

import base64
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from nacre.cloud.discovery import kv
from nacre.cloud.discovery.indexes import below, one_key
from nacre.cloud.discovery.kv import FLAGS_MAX, KeyOp, Refused
from nacre.cloud.errors import Invalid
from nacre.panes.consul.dialect import PATH, PLAIN, check_datacenter, flag, missing, number, raw, shown
from nacre.panes.consul.queries import found, headers_of
from nacre.panes.edge import Call, Reply, Route

RAW_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as Consul shows it."""

    LockIndex: int
    Key: str
    Flags: int
    Value: str | None
    Session: str = ""
    CreateIndex: int = -1
    ModifyIndex: int = -1


def entry(row: dict[str, Any], *, with_value: bool = True) -> Entry:
    value = base64.b64encode(row["value"]).decode() if row["value"] and with_value else None
    return Entry(
        LockIndex=row["lock_index"],
        Key=row["key"],
        Flags=int(row["flags"]),
        Value=value,
        Session=row["session"] or "",
        CreateIndex=row["create_index"],
        ModifyIndex=row["modify_index"],
    )


def key_of(call: Call) -> str:
    """The key as it stands in the path, slashes, dots and all: nothing of it is tidied. Raises Invalid for what is no UTF-8."""
    path = call.request.rel_url.raw_path
    quoted = path.partition(f"{PATH}/kv/")[2]
    try:
        key = unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        raise Invalid("Invalid key: it is not UTF-8", field="key") from None
    return key


def _needed(call: Call) -> str:
    key = key_of(call)
    if not key:
        raise Invalid("Missing key name", field="key")
    return key


async def get(call: Call) -> Reply:
    if flag(call, "keys"):
        prefix = key_of(call)
        seen = await found(call, [below(prefix)], kv.names, prefix, call.query.get("separator", ""))
        headers = headers_of(call, seen.index)
        return shown(call, seen.value, headers=headers) if seen.value else missing(headers)
    if flag(call, "recurse"):
        seen = await found(call, [below(key_of(call))], kv.tree, key_of(call))
    else:
        seen = await found(call, [one_key(_needed(call))], kv.get, key_of(call))
    headers = headers_of(call, seen.index)
    if not seen.value:
        return missing(headers)
    if flag(call, "raw"):
        return Reply(seen.value[0]["value"], headers=headers | RAW_HEADERS, content_type=PLAIN)
    return shown(call, [entry(row) for row in seen.value], headers=headers)


async def put(call: Call) -> Reply:
    key = _needed(call)
    check_datacenter(call)
    asked = [name for name in ("cas", "acquire", "release") if flag(call, name)]
    if len(asked) > 1:
        raise Invalid(f"Conflicting flags: {'&'.join(sorted(asked))}")
    verb = {"cas": "cas", "acquire": "lock", "release": "unlock"}[asked[0]] if asked else "set"
    op = KeyOp(
        verb,
        key,
        await raw(call),
        number(call, "flags", FLAGS_MAX) or 0,
        number(call, "cas", FLAGS_MAX) or 0,
        call.query.get("acquire") or call.query.get("release") or "",
    )
    return await written(call, op)


async def delete(call: Call) -> Reply:
    check_datacenter(call)
    recurse, cas = flag(call, "recurse"), flag(call, "cas")
    if recurse and cas:
        raise Invalid("Conflicting flags: cas&recurse")
    key = key_of(call) if recurse else _needed(call)
    verb = "delete-tree" if recurse else "delete-cas" if cas else "delete"
    return await written(call, KeyOp(verb, key, index=number(call, "cas", FLAGS_MAX) or 0))


async def written(call: Call, op: KeyOp) -> Reply:
    """true, or false where the verb's condition does not hold."""
    try:
        await call.write(kv.write, op)
    except Refused:
        return shown(call, False)
    return shown(call, True)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/kv/{key:.*}", get, "discovery:read", "Read a key, the keys under a prefix, or their names"),
    Route("PUT", "/kv/{key:.*}", put, "discovery:write", "Write a key; with conditions, or as a lock"),
    Route("DELETE", "/kv/{key:.*}", delete, "discovery:write", "Delete a key, or all under a prefix"),
)
