"""Load by wrk (1): a C client in a process of its own, so that the figures are the server's."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from nacre.cli.benchmarks.target import Figures, Target

SECONDS = 8
CONNECTIONS = 16
TOKENS = 9000
"""Tokens for the first-seen case, one after the other and again from the first: more than twice what the API process caches, so that none
is in its cache when its turn comes."""


def wrk(
    url: str, headers: dict[str, str], *, lua: str = "", connections: int = CONNECTIONS, seconds: int = SECONDS
) -> dict[str, float]:
    """Requests per second and latencies (ms). Raises ClickException when an answer was not 2xx."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(f"wrk.headers[{name!r}] = {value!r}" for name, value in headers.items()) + "\n" + lua)
        script.flush()
        # The headers are in the file and not on the command line, where everybody could read the token.
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name, url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise click.ClickException(f"{url}: some answers were errors:\n{output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    found = {"req/s": float(rate[1]) if rate else 0.0}
    for share in ("50%", "99%"):
        match = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", output)
        if match:
            found[f"p{share[:-1]} ms"] = round(float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]], 3)
    return found


def validation(target: Target) -> Figures:
    """GET /v3/auth/tokens: the same token again and again, and tokens that this process has not seen."""
    url = f"{target.url}/identity/v3/auth/tokens"
    token = target.client.token
    repeated = wrk(url, {"X-Auth-Token": token, "X-Subject-Token": token})
    tokens = _issue(target, TOKENS)
    lua = (
        "local tokens = {}\n"
        f"for line in io.lines({str(_listed(tokens))!r}) do tokens[#tokens+1] = line end\n"
        "local n = 0\n"
        "request = function()\n n = n + 1\n"
        " wrk.headers['X-Subject-Token'] = tokens[(n - 1) % #tokens + 1]\n return wrk.format('GET')\nend\n"
    )
    first = wrk(url, {"X-Auth-Token": token}, lua=lua)
    values: dict[str, float | str] = {f"repeated {name}": value for name, value in repeated.items()}
    values |= {f"first seen {name}": value for name, value in first.items()}
    return Figures("validate a token", values)


def _listed(tokens: Sequence[str]) -> Path:
    path = Path(tempfile.mkdtemp(prefix="nacre-bench-")) / "tokens"
    path.touch(mode=0o600)
    path.write_text("\n".join(tokens) + "\n")
    return path


def _issue(target: Target, count: int) -> list[str]:
    """So many tokens, each made from the first one."""
    auth = {"auth": {"identity": {"methods": ["token"], "token": {"id": target.client.token}}}}
    auth["auth"]["scope"] = {"project": {"id": target.client.project_id}}
    import http.client
    import json
    from urllib.parse import urlsplit

    parts = urlsplit(target.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    tokens = []
    body = json.dumps(auth)
    for _ in range(count):
        connection.request("POST", "/identity/v3/auth/tokens?nocatalog", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        tokens.append(answer.headers["X-Subject-Token"])
    return tokens


def one_server(target: Target) -> Figures:
    """GET of one ACTIVE server with a port, 16 connections."""
    target.prepare()
    server = target.boot("read")
    target.wait(lambda: target.status(server) == "ACTIVE", "the server to be ACTIVE")
    found = wrk(f"{target.url}/compute/v2.1/servers/{server}", {"X-Auth-Token": target.client.token})
    target.delete_all()
    return Figures("GET of one server, 16 connections", dict(found))
