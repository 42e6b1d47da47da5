"""Spoilt values, bodies, paths, queries and headers. Everything is drawn from one seeded generator, so that a seed gives the same run."""

import copy
import json
from random import Random
from typing import Any

LONG = "x" * 70_000
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7.5, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 1e308, -0.0),
    *("", " ", "x", "x" * 256, LONG, "\x00", "a\x00b", "\ud800", "\U0001f980" * 80, "\u202e", "ä" * 255, "%00", "%", "_"),
    *("../../etc/passwd", "'; DROP TABLE servers; --", "{}", "null", "true", "NaN", "-1", "1e9", "0x10", "٣", "1_0", "+1"),
    *("00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-4FFF-8FFF-FFFFFFFFFFFF", "default", "admin"),
    *(
        "127.0.0.1",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.1/33",
        "fe80::1%eth0",
        "::ffff:1.2.3.4",
        "999.1.1.1",
        "1.2.3",
        "ff:ff:ff:ff:ff:ff",
    ),
    *("2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "now", "http://[::1", "regex:("),
    *([], {}, [None], [[]], [[[]]], {"": None}, {"a": {"b": {"c": []}}}, ["a", "a"], [{}], {"id": {}}, [1, "a", None, {}]),
    *(list(range(2000)), {f"k{n}": "v" for n in range(2000)}, {"x" * 300: "y"}, {"\x00": "\x00"}),
)
BODIES: tuple[bytes, ...] = (
    *(b"", b" ", b"{", b"}", b"null", b"true", b"[]", b"{}", b'"x"', b"7", b"1e999", b"NaN", b"-", b"\xff\xfe", b"\x00"),
    *(b'{"a":1,"a":2}', b'\xef\xbb\xbf{"a":1}', b'{"a":"\xff"}', b"[" * 5000, b'{"a":' * 3000, b"[" * 900 + b"]" * 900),
    *(b"9" * 5000, b'{"x":' + b"9" * 400 + b"}", b"<xml/>", b"a=b&c=d", b'"' + b"x" * 100_000 + b'"'),
)
# None of them is an actor's, a project's or a domain's id: the fuzz must not take away what it stands on.
SEGMENTS: tuple[str, ...] = (
    *(
        "nothing",
        "0",
        "-1",
        "%00",
        "%E2%80%AE",
        "%F0%9F%A6%80",
        "x" * 300,
        "..%2f..",
        "%2e%2e",
        "%ff",
        "%ED%A0%80",
        "a%20b",
        "'",
        '%22"',
    ),
    *(
        "00000000-0000-4000-8000-000000000000",
        "f" * 32,
        "9" * 40,
        "Default",
        "None",
        "detail",
        "%25",
        "*",
    ),
)
TEXTS: tuple[str, ...] = (
    *(
        "-1",
        "0",
        "1",
        "abc",
        "1e3",
        "9" * 30,
        "",
        "%00",
        "%ff",
        "%ED%A0%80",
        "true",
        "None",
        "x" * 1500,
        "%F0%9F%A6%80",
        "%D9%A3",
        "1_0",
    ),
    *(
        "2026-13-45T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "gt:x",
        "in:a,b",
        "in:%22",
        "neq:",
        "regex:(",
        "%5B",
        "%28%28%28",
        "a%25b_c",
        "ACTIVE",
    ),
    *(
        "id",
        "name:desc",
        "created_at",
        "nothing",
        "asc",
        "up",
        "00000000-0000-4000-8000-000000000000",
        "10.0.0.1",
        "ip_address%3Dx",
        "a%3D",
    ),
)
NAMES: tuple[str, ...] = (
    *(
        "limit",
        "marker",
        "sort_key",
        "sort_dir",
        "sort",
        "page_reverse",
        "fields",
        "name",
        "id",
        "status",
        "enabled",
        "tags",
        "not-tags",
    ),
    *(
        "changes-since",
        "changes-before",
        "all_tenants",
        "ip",
        "ip6",
        "flavor",
        "image",
        "host",
        "project_id",
        "tenant_id",
        "created_at",
    ),
    *(
        "updated_at",
        "name__contains",
        "parent_id",
        "is_public",
        "minDisk",
        "minRam",
        "visibility",
        "member_status",
        "size_min",
        "owner",
    ),
    *(
        "protected",
        "os_hidden",
        "user_id",
        "fixed_ips",
        "device_id",
        "network_id",
        "router:external",
        "cidr",
        "ip_version",
        "mtu",
        "effective",
    ),
    *(
        "include_names",
        "scope.project.id",
        "parents_as_list",
        "subtree_as_ids",
        "nocatalog",
        "availability_zone",
        "locked",
        "deleted",
        "reservation",
    ),
    *(
        "hypervisor_hostname_pattern",
        "with_servers",
        "binary",
        "resources",
        "required",
        "in_tree",
        "member_of",
        "%00",
        "",
        "x" * 200,
    ),
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("OpenStack-API-Version", "compute 2.9999"),
    ("OpenStack-API-Version", "compute 99999999999999999999.1"),
    ("OpenStack-API-Version", "compute"),
    ("OpenStack-API-Version", "compute -1.x"),
    ("OpenStack-API-Version", "compute latest"),
    ("OpenStack-API-Version", "placement latest"),
    ("X-OpenStack-Nova-API-Version", "2.50"),
    ("X-Subject-Token", "forged"),
    ("X-Subject-Token", "x" * 4000),
    ("Content-Type", "text/xml"),
    ("Content-Type", "application/json; charset=utf-7"),
    ("Content-Type", "nothing"),
    ("Content-Encoding", "gzip"),
    ("Range", "bytes=5-1"),
    ("Range", "bytes=-"),
    ("Accept", "text/html"),
    ("X-Image-Meta-Store", "nowhere"),
)


def dumps(value: Any) -> bytes:
    """JSON with lone surrogates as escapes: what a hostile client can write."""
    return json.dumps(value).encode()


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value, as the keys that lead there."""
    found = [place]
    if isinstance(value, dict):
        for key, each in value.items():
            found += _places(each, (*place, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found += _places(each, (*place, index))
    return found


def spoil(random: Random, good: Any) -> Any:
    """A copy with one or two places replaced, taken away, or added to."""
    value = copy.deepcopy(good)
    for _ in range(random.choice((1, 1, 2))):
        place = random.choice(_places(value)[1:] or [()])
        if not place:
            return random.choice(VALUES)
        parent = value
        for key in place[:-1]:
            parent = parent[key]
        what = random.random()
        if what < 0.7:
            parent[place[-1]] = copy.deepcopy(random.choice(VALUES))
        elif what < 0.85:
            del parent[place[-1]]
        elif isinstance(parent, dict):
            parent[random.choice(("unknown", "id", "project_id", "\x00", "name", "tags", "x" * 300))] = random.choice(VALUES)
        else:
            parent.append(copy.deepcopy(random.choice(VALUES)))
    return value


def query(random: Random) -> str:
    """Parameters that somewhere mean something, with values that mean nothing; no text for none."""
    if random.random() < 0.3:
        return ""
    parts = [f"{random.choice(NAMES)}={random.choice(TEXTS)}" for _ in range(random.choice((1, 1, 2, 4)))]
    return "?" + "&".join(parts)
