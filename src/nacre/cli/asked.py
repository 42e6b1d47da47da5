"""What `nacre up` was asked for, and whether a cloud that runs is already that way. What was not asked for stays as it is."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from nacre.cli import database
from nacre.cli.host import parse_place
from nacre.cli.state import COMMAND, Cloud, State


@dataclass(frozen=True)
class Asked:
    """The options of `up`, with None where none was given."""

    port: int | None = None
    simulate: int | None = None
    docker_tcp: int | None = None
    docker_tls: int | None = None
    strategy: str | None = None
    settings: tuple[str, ...] = ()
    nodes: str | None = None
    external: str | None = None
    store: str | None = None
    url: str | None = None
    bind: str | None = None
    processes: int | None = None
    blobs: Path | None = None
    peer: Path | None = None

    @property
    def place(self) -> tuple[str, int] | None:
        """Where nodes come, by `nodes`. Raises UsageError."""
        return None if self.nodes is None else parse_place(self.nodes)

    @property
    def public_url(self) -> str | None:
        """`url` without a slash at its end. Raises UsageError."""
        if not self.url:
            return self.url
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise click.UsageError(f"--url {self.url}: say http[s]://HOST[:PORT]")
        return self.url.rstrip("/")

    @property
    def address(self) -> str | None:
        """By `bind`. Raises UsageError."""
        try:
            return self.bind and str(ipaddress.ip_address(self.bind))
        except ValueError:
            raise click.UsageError(f"--bind {self.bind}: say an address of this machine") from None

    @property
    def folder(self) -> str | None:
        """By `blobs`."""
        return None if self.blobs is None else str(self.blobs.absolute())


_AGAIN = "first `{down}`, then `up` again"
_CHECKS: tuple[tuple[str, Callable[[Asked], Any], Callable[[State, Cloud], Any], str], ...] = (
    ("port", lambda asked: asked.port, lambda _, cloud: cloud.port, "the cloud runs on port {now}; to move it: "),
    (
        "simulate",
        lambda asked: asked.simulate,
        lambda _, cloud: cloud.simulated_hosts,
        "the cloud runs with another number of hosts; ",
    ),
    ("docker_tcp", lambda asked: asked.docker_tcp, lambda _, cloud: cloud.docker_tcp_port, ""),
    ("docker_tls", lambda asked: asked.docker_tls, lambda _, cloud: cloud.docker_tls_port, ""),
    ("nodes", lambda asked: asked.place, lambda _, cloud: (cloud.nodes_address, cloud.nodes_port), ""),
    ("external", lambda asked: asked.external, lambda _, cloud: cloud.external_device, ""),
    (
        "strategy",
        lambda asked: asked.strategy,
        lambda _, cloud: cloud.strategy,
        "the cloud runs and places by {now}; to change it: ",
    ),
    ("store", lambda asked: asked.store, database.url_of, ""),
    ("url", lambda asked: asked.public_url, lambda _, cloud: cloud.public_url, ""),
    ("bind", lambda asked: asked.address, lambda _, cloud: cloud.bind, ""),
    ("processes", lambda asked: asked.processes, lambda _, cloud: cloud.processes, ""),
    ("blobs", lambda asked: asked.folder, lambda _, cloud: cloud.blobs, ""),
    ("set", lambda asked: asked.settings or None, lambda _, __: (), "the cloud runs; to change a setting: "),
    ("from", lambda asked: asked.peer, lambda _, __: "", "the cloud runs already; to begin with another one's keys: "),
)
"""An option, what was asked for, what is so, and what is said before the remedy where these differ."""


def check_running(state: State, cloud: Cloud, asked: Asked) -> None:
    """Raises ClickException when the cloud, which runs, would have to be stopped to be as it was asked for."""
    again = _AGAIN.format(down=f"{COMMAND} down{state.option}")
    for name, wanted, is_so, words in _CHECKS:
        now = is_so(state, cloud)
        if wanted(asked) not in (None, now):
            raise click.ClickException(
                (words or f"the cloud runs; to change --{name.replace('_', '-')}: ").format(now=now) + again
            )
