"""`nacre host`: the cloud's hosts and the labels that steer what runs on them."""

import json
from pathlib import Path
from urllib.parse import quote

import click

from nacre.cli.client import connect, send
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import opened, state_option

COLUMNS = ("hostname", "id", "alive", "enabled", "availability_zone", "guests", "labels")


@click.group()
def host() -> None:
    """Show hosts and label them."""


@host.command("list")
@state_option
@format_option
def list_hosts(directory: Path | None, form: str) -> None:
    """List the hosts with their labels."""
    state = opened(directory)
    cloud = state.require()
    client = connect(state)
    client.authenticate()
    rows = send("GET", f"{cloud.url}/nacre/v1/hosts", {"X-Auth-Token": client.token}).body["hosts"]
    if form == "json":
        emit_json(rows)
        return
    shown = [{**row, "labels": shown_labels(row["labels"])} for row in rows]
    click.echo(table(COLUMNS, [[row[name] for name in COLUMNS] for row in shown]))


@host.command()
@click.argument("name", metavar="HOST")
@click.argument("changes", metavar="LABEL=VALUE...", nargs=-1, required=True)
@state_option
def label(name: str, changes: tuple[str, ...], directory: Path | None) -> None:
    """Write labels on a host; LABEL- takes one off. Expressions read them: -e constraint:storage==ssd."""
    state = opened(directory)
    cloud = state.require()
    wanted: dict[str, str | None] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals and not change.endswith("-"):
            raise click.UsageError(f"{change}: say LABEL=VALUE, or LABEL- to take it off")
        wanted[key if equals else change[:-1]] = value if equals else None
    client = connect(state)
    client.authenticate()
    headers = {"X-Auth-Token": client.token, "Content-Type": "application/json"}
    url = f"{cloud.url}/nacre/v1/hosts/{quote(name, safe='')}/labels"
    click.echo(shown_labels(send("PATCH", url, headers, json.dumps(wanted).encode()).body["labels"]))


def shown_labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
