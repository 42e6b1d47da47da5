"""Which database is a cloud's store, and where its URL is kept: the password is in one file that only root and the API's user read."""

import asyncio
import grp
import pwd
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from nacre.cli.state import COMMAND, Cloud, State, write

if TYPE_CHECKING:
    from nacre.store import Store

_PASSWORD = re.compile(r"(?<=//)([^/@:?]*):[^/@]*@")
_QUERY_PASSWORD = re.compile(r"([?&])(password|sslpassword)=[^&]*&?")


def without_password(url: str) -> str:
    return _QUERY_PASSWORD.sub(r"\1", _PASSWORD.sub(r"\1@", url)).rstrip("?&")


def check_given(url: str | None) -> None:
    """Raises ClickException for what is no PostgreSQL's URL, and for a password on the command line, where everybody could read it."""
    if url is None:
        return
    if not url.startswith(("postgresql://", "postgres://")):
        raise click.ClickException("--store takes postgresql://USER@HOST:PORT/DATABASE; without it there is SQLite")
    context = click.get_current_context()
    source = context.get_parameter_source("store")
    if without_password(url) != url and source is not click.core.ParameterSource.ENVIRONMENT:
        raise click.ClickException(
            f"a password on the command line can be read by everybody on this machine: NACRE_STORE=URL {context.command_path}"
        )


def url_of(state: State, cloud: Cloud) -> str:
    """With its password."""
    return state.store.read_text().strip() if cloud.store else f"sqlite:///{state.api / 'nacre.sqlite'}"


def keep(state: State, cloud: Cloud, url: str) -> None:
    gid = grp.getgrgid(pwd.getpwnam(cloud.user).pw_gid).gr_gid
    write(state.store, url + "\n", mode=0o640, gid=gid)


def check_change(cloud: Cloud, url: str) -> None:
    """Another way to the same database is fine; another database is not what this says. Raises ClickException."""
    if not cloud.store:
        raise click.ClickException(f"the cloud's store is SQLite; to move it: {COMMAND} store move")
    if name_of(cloud.store) != name_of(url):
        raise click.ClickException(f"the cloud's store is the database {name_of(cloud.store)}; it stays where it is")


def check_empty(url: str) -> None:
    """A new cloud takes no database in which there is something already. Raises ClickException, also when it cannot be reached."""
    with _opened(url) as store:
        from nacre.cloud.schema import tables_in

        there = store.read_now(tables_in)
    if there:
        raise click.ClickException(
            f"the database {name_of(url)} is not empty: it has the table {there[0]}; give a new cloud an empty one"
        )


def empty(url: str) -> None:
    """Drop what a cloud made in the database. Raises ClickException."""
    with _opened(url) as store:
        from nacre.cloud.schema import drop

        asyncio.run(store.alone(drop))


def leave(url: str, process_ids: Iterable[str]) -> list[str]:
    """Strike out API processes that will not come back. Returns the machines of those that are left. Raises ClickException."""
    with _opened(url) as store:
        import sqlalchemy as sa

        from nacre.cloud.processes import operations
        from nacre.cloud.processes.tables import api_processes

        def left(conn: sa.Connection) -> list[str]:
            if not sa.inspect(conn).has_table(api_processes.name):
                return []
            for ident in process_ids:
                operations.leave(conn, ident)
            return [process.hostname for process in operations.listed(conn)]

        return asyncio.run(store.write(left))


@contextmanager
def _opened(url: str) -> Iterator["Store"]:
    from nacre.store import Store, StoreError

    try:
        store = Store(url)
        try:
            yield store
        finally:
            store.close()
    except StoreError as error:
        raise click.ClickException(str(error)) from error


def name_of(url: str) -> str:
    """The database's name in a URL."""
    return url.partition("://")[2].partition("/")[2].partition("?")[0]
