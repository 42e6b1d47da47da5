"""`nacre api`: the API processes, of which a cloud on PostgreSQL may have any number."""

import json
from pathlib import Path

import click

from nacre.cli import balancing, peers
from nacre.cli.host import ask
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import COMMAND, opened, say, state_option, write

COLUMNS = ("hostname", "id", "state", "leads", "hosts", "address", "url", "version")


@click.group()
def api() -> None:
    """Show the API processes; let other machines have some."""


@api.command("list")
@state_option
@format_option
def list_processes(directory: Path | None, form: str) -> None:
    """Show the API processes that serve over the store."""
    rows = ask(opened(directory), "GET", "/api-processes")["processes"]
    if form == "json":
        emit_json(rows)
    else:
        click.echo(table(COLUMNS, [[row[name] for name in COLUMNS] for row in rows]))


@api.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@state_option
def export(file: Path, directory: Path | None) -> None:
    """Write to FILE what a further API process on another machine needs. It holds the cloud's keys: keep it as you keep those."""
    state = opened(directory)
    cloud = state.require()
    write(file, json.dumps(peers.exported(state, cloud)) + "\n", mode=0o600)
    say(
        f"On the other machine: {COMMAND} up --from {file.name} --nodes ADDRESS:PORT --bind ADDRESS. Then remove the file from both."
    )


@api.command()
@click.option("--listen", required=True, metavar="ADDRESS:PORT", help="Where clients come: what `up --url` says.")
@click.option("--nodes", metavar="ADDRESS:PORT", help="Where hosts may join too, whichever API process is there.")
@click.option(
    "--docker", metavar="ADDRESS:PORT", help="Where Docker's clients come: tcp://ADDRESS:PORT/docker, with a token as header."
)
@state_option
def haproxy(listen: str, nodes: str | None, docker: str | None, directory: Path | None) -> None:
    """Print a configuration of HAProxy's that balances among the API processes there are now."""
    rows = ask(opened(directory), "GET", "/api-processes")["processes"]
    click.echo(balancing.haproxy(rows, listen, nodes, docker), nl=False)
