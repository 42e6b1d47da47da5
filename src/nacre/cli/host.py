"""`nacre host`: the cloud's hosts: which there are, how others join, what runs on them and what does not."""

import ipaddress
import json
import re
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from nacre.cli.client import connect, send
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import COMMAND, State, opened, state_option

COLUMNS = ("hostname", "id", "state", "availability_zone", "guests", "labels")
DRAIN_LOOK_S = 0.5
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
AWAY = ("192.0.2.1", 9)
"""An address that is nobody's (RFC 5737): nothing is sent there, but the kernel says which of our addresses would be the source."""


@click.group()
def host() -> None:
    """Show hosts, let others join, cordon, drain and remove them, label them."""


def ask(state: State, method: str, path: str, body: Any = None) -> Any:
    """The operator API's answer."""
    cloud = state.require()
    client = connect(state)
    client.authenticate()
    headers = {"X-Auth-Token": client.token, "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    return send(method, f"{cloud.url}/nacre/v1{path}", headers, content).body


def path_of(name: str) -> str:
    return f"/hosts/{quote(name, safe='')}"


@host.command("list")
@state_option
@format_option
def list_hosts(directory: Path | None, form: str) -> None:
    """List the hosts with their state and labels."""
    answer = ask(opened(directory), "GET", "/hosts")
    rows = answer["hosts"]
    if form == "json":
        emit_json(rows)
        return
    shown = [{**row, "state": state_of(row), "labels": shown_labels(row["labels"])} for row in rows]
    click.echo(table(COLUMNS, [[row[name] for name in COLUMNS] for row in shown]))
    if answer["warning"]:
        click.echo(f"\n{answer['warning']}")
    for row in rows:
        if row["acceptance"] == "failed":
            click.echo(f"\n{row['hostname']} gets no servers, for its examination failed:\n{row['acceptance_cause']}")


def state_of(row: dict[str, Any]) -> str:
    """up, down or what keeps work from it."""
    words = ["up" if row["alive"] else "down"]
    if row["acceptance"] != "accepted":
        words.append("not accepted" if row["acceptance"] == "failed" else "waits for its examination")
    if not row["enabled"]:
        words.append("cordoned")
    return ", ".join(words)


@host.command()
@click.argument("name", metavar="HOST")
@state_option
@format_option
def show(name: str, directory: Path | None, form: str) -> None:
    """Show a host: its state, its book, how it came."""
    shown_host(ask(opened(directory), "GET", path_of(name))["host"], form)


def shown_host(row: dict[str, Any], form: str) -> None:
    if form == "json":
        emit_json(row)
        return
    lines = {"state": state_of(row), **row, "labels": shown_labels(row["labels"])}
    if (progress := lines.pop("drain", None)) is not None:
        lines["drain"] = drain_line(progress)
        lines |= {f"stays: {one['name']}": one["reason"] for one in progress["staying"].values()}
    click.echo(table(("field", "value"), [(key, "" if value is None else value) for key, value in lines.items()]))


@host.command()
@click.argument("name", metavar="HOST")
@click.option("--reason", help="Shown beside it.")
@state_option
@format_option
def cordon(name: str, reason: str | None, directory: Path | None, form: str) -> None:
    """Give a host no more servers; those that are there stay."""
    shown_host(ask(opened(directory), "PUT", f"{path_of(name)}/cordon", {"reason": reason})["host"], form)


def drain_line(progress: dict[str, Any]) -> str:
    if progress["finished_at"]:
        return "the host is empty"
    stay = len(progress["staying"])
    return f"{progress['left']} of {progress['total']} are left, {progress['moving']} on their way, {stay} stay for now"


@host.command()
@click.argument("name", metavar="HOST")
@click.option("--wait", is_flag=True, help="Until the host is empty; ends with 1 where all that is left has to stay.")
@click.option("--reason", help="Shown beside it.")
@state_option
@format_option
def drain(name: str, wait: bool, reason: str | None, directory: Path | None, form: str) -> None:
    """Cordon a host and have its servers stop, go to other hosts and start there. `uncordon` ends it."""
    state = opened(directory)
    row = ask(state, "PUT", f"{path_of(name)}/drain", {"reason": reason})["host"]
    line = ""
    while wait and not row["drain"]["finished_at"] and not stuck(row["drain"]):
        if form != "json" and line != (line := drain_line(row["drain"])):
            click.echo(line)
        time.sleep(DRAIN_LOOK_S)
        row = ask(state, "GET", path_of(name))["host"]
    shown_host(row, form)
    if wait and not row["drain"]["finished_at"]:
        raise SystemExit(1)


def stuck(progress: dict[str, Any]) -> bool:
    """Whether nothing moves any more, and all that is left has a reason to stay."""
    return not progress["moving"] and 0 < progress["left"] == len(progress["staying"])


@host.command()
@click.argument("name", metavar="HOST")
@state_option
@format_option
def uncordon(name: str, directory: Path | None, form: str) -> None:
    """Give a host servers again."""
    shown_host(ask(opened(directory), "DELETE", f"{path_of(name)}/cordon")["host"], form)


@host.command()
@click.argument("name", metavar="HOST")
@state_option
@format_option
def remove(name: str, directory: Path | None, form: str) -> None:
    """Take a host that carries nothing out of the cloud; its certificate is worth nothing from then on."""
    state = opened(directory)
    ask(state, "DELETE", path_of(name))
    if form == "json":
        emit_json({"removed": name})
    else:
        click.echo(f"{name} is no host of this cloud any more. On that machine: {COMMAND} down --purge")


@host.command()
@click.option("--ttl", default="1h", show_default=True, metavar="N[s|m|h|d]", help="How long the token is good.")
@click.option("--hosts", default=1, show_default=True, help="For how many simulated hosts (`join --simulate N`).")
@click.option("--address", help="Where hosts reach this machine, if not at the address that is shown.")
@state_option
@format_option
def token(ttl: str, hosts: int, address: str | None, directory: Path | None, form: str) -> None:
    """Print the line to paste on a machine that shall join. Good once."""
    state = opened(directory)
    cloud = state.require()
    if not cloud.nodes_port:
        raise click.ClickException(
            f"this cloud lets no other hosts in: {COMMAND} down{state.option}, then {COMMAND} up --nodes [ADDRESS:]PORT{state.option}"
        )
    made = ask(state, "POST", "/host-tokens", {"hosts": hosts, "ttl_s": seconds_of(ttl)})
    url = f"https://{bracketed(address or reachable(cloud.nodes_address))}:{cloud.nodes_port}"
    simulated = f" --simulate {hosts}" if hosts > 1 else ""
    if form == "json":
        emit_json({**made, "url": url})
    else:
        click.echo(f"nacre join {url} --token {made['token']}{simulated}")


def seconds_of(text: str) -> int:
    matched = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if matched is None:
        raise click.UsageError(f"--ttl {text}: say a number and s, m, h or d")
    return int(matched[1]) * UNITS_S[matched[2] or "s"]


def parse_place(text: str) -> tuple[str, int]:
    """[ADDRESS:]PORT; without an address, every one. Raises UsageError."""
    address, _, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    try:
        if address:
            address = str(ipaddress.ip_address(address))
        if not 0 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise click.UsageError(f"--nodes {text}: say [ADDRESS:]PORT, with an address of this machine") from None
    return address, int(port)


def reachable(address: str) -> str:
    """An address of this machine for others: the one that was chosen, or the one from which packets go out."""
    if address and not ipaddress.ip_address(address).is_unspecified:
        return address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(AWAY)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@host.command()
@click.argument("name", metavar="HOST")
@click.argument("changes", metavar="LABEL=VALUE...", nargs=-1, required=True)
@state_option
def label(name: str, changes: tuple[str, ...], directory: Path | None) -> None:
    """Write labels on a host; LABEL- takes one off. Expressions read them: -e constraint:storage==ssd."""
    wanted: dict[str, str | None] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals and not change.endswith("-"):
            raise click.UsageError(f"{change}: say LABEL=VALUE, or LABEL- to take it off")
        wanted[key if equals else change[:-1]] = value if equals else None
    click.echo(shown_labels(ask(opened(directory), "PATCH", f"{path_of(name)}/labels", wanted)["labels"]))


def shown_labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
