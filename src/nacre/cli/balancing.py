"""HAProxy's configuration for a cloud of several API processes: it sends each request to one that reaches the store.

Any process serves any request, so nothing binds a client to one. Nodes come by TLS that HAProxy only passes on (mode tcp): each finds the
other processes by itself once it has reached one. Docker's clients have a place of their own, where whole connections are passed on: `docker
exec` asks to upgrade a request with a body, and HAProxy's HTTP mode takes that out of such a request (seen with 2.6).
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

HEAD = """\
# Made by `nacre api haproxy`. A process that cannot reach the store answers 503 on /healthz, and is sent nothing.
defaults
  timeout connect 2s
  timeout http-request 60s
  timeout client 15m
  timeout server 15m
  timeout tunnel 24h
  option redispatch
  retries 3
  default-server check inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
"""
"""The timeouts are longer than the longest blocking query; consoles, attach and exec are tunnels. A request that never reached a process is
sent to another one."""


def haproxy(rows: Sequence[Mapping[str, Any]], listen: str, nodes: str | None, docker: str | None = None) -> str:
    """`rows` are the API processes, as the operator API lists them; `listen`, `nodes` and `docker` are ADDRESS:PORT."""
    addresses = [row["address"] for row in rows]
    parts = [HEAD, *_section("nacre", "http", listen, addresses, check="")]
    if docker:
        parts += _section("nacre-docker", "tcp", docker, addresses, check="")
    if nodes:
        doors = [urlsplit(row["url"]).netloc for row in rows if row["url"]]
        parts += _section("nacre-nodes", "tcp", nodes, doors, check=[row["address"] for row in rows if row["url"]])
    return "\n".join(parts) + "\n"


def _section(name: str, mode: str, listen: str, places: Sequence[str], check: str | Sequence[str]) -> list[str]:
    """`check`: where each is asked whether it serves, if that is not the place itself."""
    lines = [
        f"listen {name}",
        f"  mode {mode}",
        f"  bind {listen}",
        "  balance roundrobin" if mode == "http" else "  balance leastconn",
        "  option httpchk GET /healthz",
        "  http-check expect status 200",
    ]
    for number, place in enumerate(places, start=1):
        asked = ""
        if check:
            host, _, port = check[number - 1].rpartition(":")
            asked = f" addr {host} port {port}"
        lines.append(f"  server api{number} {place}{asked}")
    return [*lines, ""]
