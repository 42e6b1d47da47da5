"""`nacre keys`: the Fernet keys that sign tokens."""

from pathlib import Path

import click

from nacre.cli.client import connect, send
from nacre.cli.state import opened, say, state_option


@click.group()
def keys() -> None:
    """The keys that sign tokens."""


@keys.command()
@state_option
def rotate(directory: Path | None) -> None:
    """Sign with the staged key from now on, and stage a new one. Valid tokens stay valid for three rotations."""
    state = opened(directory)
    cloud = state.require()
    client = connect(state)
    client.authenticate()
    send("POST", f"{cloud.url}/nacre/v1/keys/rotate", {"X-Auth-Token": client.token})
    say("The staged key signs now; a new one is staged.")
