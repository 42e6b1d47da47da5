"""`nacre server`: what OpenStack's and Docker's own clients have no words for."""

import re
from pathlib import Path
from typing import Any

import click

from nacre.cli.host import ask
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import opened, state_option

DOCKER_ID = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})[0-9a-f]*")
"""Docker's id begins with the server's."""


@click.group()
def server() -> None:
    """Explain where servers and containers were placed."""


@server.command()
@click.argument("ident", metavar="ID")
@state_option
@format_option
def explain(ident: str, directory: Path | None, form: str) -> None:
    """Say why a server or container (ID, also Docker's whole one) is on its host, for each time that a host was chosen."""
    docker = DOCKER_ID.fullmatch(ident)
    ident = "-".join(docker.groups()) if docker else ident
    if re.fullmatch("[0-9a-f-]{36}", ident) is None:
        raise click.UsageError(f"{ident!r} is no server's id: `openstack server list` and `docker ps --no-trunc` show them")
    decisions = ask(opened(directory), "GET", f"/servers/{ident}/decisions")["decisions"]
    if form == "json":
        emit_json(decisions)
    elif not decisions:
        click.echo("no host was ever chosen for it, or that was too long ago")
    else:
        click.echo("\n\n".join(_told(each) for each in decisions))


def _told(decision: dict[str, Any]) -> str:
    chosen = f"placed on {decision['hostname']}" if decision["hostname"] else "no host was found"
    wanted = ", ".join(f"{name}={_short(value)}" for name, value in decision["wanted"].items())
    lines = [f"{decision['created_at']}  {decision['action']}: {chosen}  ({decision['request_id']})", f"wanted: {wanted}"]
    left = decision["hosts"] - sum(each["count"] for each in decision["dropped"])
    rows = [[each["count"], each["why"], _named(each)] for each in decision["dropped"]]
    lines.append(table(("hosts", "", "such as"), [[decision["hosts"], "in all", ""], *rows, [left, "left", ""]]))
    if decision["best"]:
        lines.append(table(("best", "weight", "strategy", "guests", "vcpus", "memory_mb", "disk_gb"), _ranking(decision["best"])))
    return "\n".join(lines)


def _short(value: Any) -> str:
    return ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)


def _named(dropped: dict[str, Any]) -> str:
    return ", ".join(dropped["hosts"]) + (", ..." if dropped["count"] > len(dropped["hosts"]) else "")


def _ranking(best: list[dict[str, Any]]) -> list[list[object]]:
    sizes = ("vcpus", "memory_mb", "disk_gb")
    return [
        [
            *(each["hostname"], each["weight"], each["strategy"], each["guests"]),
            *(f"{each['used'][name]}/{each['of'][name]:.0f}" for name in sizes),
        ]
        for each in best
    ]
