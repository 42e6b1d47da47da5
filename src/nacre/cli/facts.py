"""`nacre facts`: what the hosts know of themselves, under Facter's names; the scheduler's expressions read the same."""

import fnmatch
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from nacre.cli.client import ApiError, connect, send
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import opened, say, state_option


@click.group(invoke_without_command=True)
@click.option("--host", "host_name", help="Only of this host (its name or id).")
@click.option("--name", "patterns", multiple=True, help="Only facts of this name; * stands for anything (os.*). May be repeated.")
@state_option
@format_option
@click.pass_context
def facts(ctx: click.Context, host_name: str | None, patterns: tuple[str, ...], directory: Path | None, form: str) -> None:
    """Show the facts of the cloud's hosts, as they are now."""
    if ctx.invoked_subcommand is not None:
        return
    hosts = fetched(directory, host_name)
    if form == "json":
        emit_json({host["hostname"]: _chosen(host["facts"], patterns) for host in hosts})
        return
    rows = [[host["hostname"], name, text] for host in hosts for name, text in flattened(_chosen(host["facts"], patterns))]
    click.echo(table(("host", "fact", "value"), rows))


def fetched(directory: Path | None, host_name: str | None = None) -> list[dict[str, Any]]:
    """The hosts with their facts, as the API process has them."""
    state = opened(directory)
    cloud = state.require()
    client = connect(state)
    client.authenticate()
    query = f"?host={quote(host_name, safe='')}" if host_name else ""
    hosts: list[dict[str, Any]] = send("GET", f"{cloud.url}/nacre/v1/facts{query}", {"X-Auth-Token": client.token}).body["hosts"]
    return hosts


@facts.command()
@click.option(
    "--consul", "url", required=True, metavar="URL", help="Of Consul's HTTP API: http://127.0.0.1:8500, or a cloud's own."
)
@click.option("--prefix", default="nacre/facts", show_default=True, help="Below which the keys are; nothing else may be there.")
@click.option(
    "--every", "every_s", type=click.FloatRange(min=1), metavar="S", help="Go on, and bring it up to date every S seconds."
)
@state_option
def publish(url: str, prefix: str, every_s: float | None, directory: Path | None) -> None:
    """Write the hosts' facts into a Consul's K/V: PREFIX/HOST/FACT, each as the text that expressions are held against.

    Keys of facts and hosts that are no more are deleted. The token comes from the environment variable CONSUL_HTTP_TOKEN.
    """
    from nacre.cli.consul import Tree

    if not url.startswith(("http://", "https://")) or not prefix.strip("/"):
        raise click.UsageError("--consul takes a URL that begins with http:// or https://, --prefix a name")
    tree = Tree(url, prefix)
    while True:
        try:
            hosts = fetched(directory)
            count = tree.make({f"{host['hostname']}/{name}": text for host in hosts for name, text in flattened(host["facts"])})
            say(f"{len(hosts)} hosts, {count} keys changed")
        except ApiError as error:
            if every_s is None:
                raise
            say(f"the facts were not published; the next turn tries again: {error.message}")
        if every_s is None:
            return
        time.sleep(every_s)


def _chosen(facts: dict[str, Any], patterns: tuple[str, ...]) -> dict[str, Any]:
    if not patterns:
        return facts
    leaves = dict(_leaves(facts, ""))
    return {name: value for name, value in leaves.items() if any(fnmatch.fnmatchcase(name, each) for each in patterns)}


def flattened(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(path of dots, text) for every fact, sorted: booleans true and false, lists with commas between."""
    for name, value in sorted(_leaves(facts, "")):
        yield name, text_of(value)


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def text_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(text_of(item) for item in value)
    return str(value)
