"""`nacre store`: where the cloud keeps what it knows."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nacre.cli import database, processes
from nacre.cli.state import COMMAND, Cloud, State, opened, say, state_option
from nacre.cli.up import locked

if TYPE_CHECKING:
    from nacre.cloud.moving_store import Moved


@click.group()
def store() -> None:
    """Show or move the cloud's store."""


@store.command()
@state_option
def show(directory: Path | None) -> None:
    """Say where the store is."""
    state = opened(directory)
    cloud = state.require()
    click.echo(cloud.store or str(state.api / "nacre.sqlite"))


@store.command()
@click.argument("store", envvar="NACRE_STORE", metavar="URL")
@state_option
def move(directory: Path | None, store: str) -> None:
    """Move a stopped cloud's store from SQLite to the PostgreSQL database at URL.

    The database must be empty. All is copied in one transaction, and counted; a move that was interrupted is begun or ended by the same
    command. Servers run on. A URL with a password comes by the environment, as NACRE_STORE.
    """
    state = opened(directory)
    cloud = state.require()
    database.check_given(store)
    with locked(state):
        for name in ("supervisor", *cloud.api_names):
            if processes.find(state.pid_file(name)) is not None:
                raise click.ClickException(f"the cloud runs; first: {COMMAND} down{state.option}")
        if cloud.store:
            _already(state, cloud, store)
            return
        moved = _moved(state, cloud, store)
        database.keep(state, cloud, store)
        cloud.store = database.without_password(store)
        state.save(cloud)
        _put_away(state)
    say(f"{moved.rows} rows of {moved.tables} tables are in {cloud.store}. Start again with: {COMMAND} up{state.option}")


def _already(state: State, cloud: Cloud, url: str) -> None:
    if cloud.store != database.without_password(url):
        raise click.ClickException(f"the cloud's store is {cloud.store} already")
    _put_away(state)
    say(f"The cloud's store is {cloud.store} already; nothing to do.")


def _moved(state: State, cloud: Cloud, url: str) -> "Moved":
    from nacre.cloud import moving_store
    from nacre.store import StoreError

    try:
        return asyncio.run(moving_store.move(database.url_of(state, cloud), url))
    except StoreError as error:
        raise click.ClickException(str(error)) from error


def _put_away(state: State) -> None:
    """The old database stays, under a name that nothing opens."""
    for suffix in ("-wal", "-shm", ""):
        path = state.api / f"nacre.sqlite{suffix}"
        if path.exists():
            path.rename(state.api / f"moved.sqlite{suffix}")
