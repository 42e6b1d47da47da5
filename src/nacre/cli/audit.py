"""`nacre audit`: intent, books and hosts held against each other. Exit code 1 when something is leaked, drifted or stuck."""

import time
from pathlib import Path
from typing import Any

import click

from nacre.cli.client import Client, connect, send
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import opened, state_option

SETTLE_POLL_S = 0.5


@click.command()
@state_option
@click.option("--settle", "settle_s", type=float, default=30.0, show_default=True, help="Seconds to wait for what is pending.")
@format_option
def audit(directory: Path | None, settle_s: float, form: str) -> None:
    """Hold intent, books and hosts against each other.

    Exits with 1 when something is left over, lost, stuck or counted wrongly, or when a host could not be looked at.
    """
    state = opened(directory)
    cloud = state.require()
    client = connect(state)
    client.authenticate()
    end = time.monotonic() + settle_s
    report = ask(client, cloud.url)
    while report["pending"] and time.monotonic() < end:
        time.sleep(SETTLE_POLL_S)
        report = ask(client, cloud.url)
    if form == "json":
        emit_json(report)
    else:
        click.echo(rendered(report))
    if report["findings"] or report["unreachable"]:
        raise SystemExit(1)


def ask(client: Client, url: str) -> dict[str, Any]:
    report: dict[str, Any] = send("GET", f"{url}/nacre/v1/audit", {"X-Auth-Token": client.token}).body
    return report


def rendered(report: dict[str, Any]) -> str:
    columns = ("kind", "id", "where", "problem")
    rows = [[finding.get(name, "") for name in columns] for finding in report["findings"]]
    parts = [table(columns, rows)] if rows else []
    parts.append(f"{len(rows)} findings, {report['pending']} pending, {report['hosts']} hosts looked at.")
    if report["unreachable"]:
        parts.append(f"Without a stream: {', '.join(report['unreachable'])}.")
    return "\n".join(parts)
