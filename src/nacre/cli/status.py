"""`nacre status` and `nacre version`."""

from pathlib import Path
from typing import Any

import click

import nacre
from nacre.cli import processes
from nacre.cli.client import ApiError, Client, connect, send
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import Cloud, State, opened, state_option
from nacre.cli.up import health

HOSTS_SHOWN_MAX = 20
HOST_COLUMNS = ("host", "state", "guests", "vcpus claimed", "memory claimed (MB)")

COUNT_MAX = 1000
"""The longest page of images that is asked for: as many are shown as `1000 or more`."""

COUNTS = (
    ("images", "image", f"/images?limit={COUNT_MAX}", "images"),
    ("networks", "network", "/networks?fields=id", "networks"),
    ("ports", "network", "/ports?fields=id", "ports"),
    ("routers", "network", "/routers?fields=id", "routers"),
    ("floating ips", "network", "/floatingips?fields=id", "floatingips"),
)
"""What is counted, by which request, under which key of the answer."""


@click.command()
@state_option
@format_option
def status(directory: Path | None, form: str) -> None:
    """Show the cloud's processes, memory, hosts and counts. Exits with 1 when it does not serve."""
    state = opened(directory)
    known = state.load()
    if known is not None and known.joined:
        show_joined(state, known, form)
        return
    cloud = state.require()
    seen = health(cloud)
    report = {
        "state": str(state.dir),
        "url": cloud.public,
        "cloud_id": cloud.cloud_id,
        "external_subnet": cloud.external_cidr,
        "serves": seen is not None,
        "processes": process_rows(state),
        "hosts_up": (seen or {}).get("hosts_up", 0),
        "hosts": [],
        "servers": {},
        "counts": {},
    }
    if seen is not None:
        admin = connect(state)
        report |= operator_status(cloud, admin)
        report["counts"] = counts(admin)
    if form == "json":
        emit_json(report)
    else:
        click.echo(rendered(report))
    if seen is None:
        raise SystemExit(1)


def show_joined(state: State, cloud: Cloud, form: str) -> None:
    """A machine that is a host of a cloud elsewhere: its processes, and what the cloud says of it. Exits with 1 when it is not up."""
    from nacre.cli.join import load_node, standing

    rows = [row for row in process_rows(state) if row["name"] != "api"]
    hosts: list[dict[str, Any]] = []
    cause = "" if state.node_config.exists() else "it has not enrolled: repeat the command `nacre join`"
    try:
        if not cause:
            config = load_node(state)
            hosts += [standing(config, host) for host in config.joined[:HOSTS_SHOWN_MAX]]
    except ApiError as error:
        cause = error.message
    report = {"state": str(state.dir), "joined": cloud.joined, "processes": rows, "hosts": hosts, "cause": cause}
    if form == "json":
        emit_json(report)
    else:
        click.echo(f"{state.dir} is a host of the cloud at {cloud.joined}.\n")
        click.echo(
            table(("process", "pid", "memory (PSS, MB)"), [(r["name"], r["pid"] or "stopped", r["pss_mb"] or "-") for r in rows])
        )
        columns = ("hostname", "id", "connected", "acceptance", "guests")
        click.echo("\n" + table(columns, [[host[name] for name in columns] for host in hosts]) if hosts else cause)
    if cause or not all(host["connected"] for host in hosts):
        raise SystemExit(1)


def process_rows(state: State) -> list[dict[str, Any]]:
    """The processes of the cloud; pid None for one that does not run."""
    rows = []
    cloud = state.load()
    for name in (*(cloud.api_names if cloud else ("api",)), "node", "supervisor"):
        process = processes.find(state.pid_file(name))
        pss = processes.pss_kib(process.pid) if process else None
        rows.append({"name": name, "pid": process.pid if process else None, "pss_mb": round(pss / 1024, 1) if pss else None})
    return rows


def operator_status(cloud: Cloud, admin: Client) -> dict[str, Any]:
    """The hosts with their books, and the number of servers in each state."""
    admin.authenticate()
    body: dict[str, Any] = send("GET", f"{cloud.url}/nacre/v1/status", {"X-Auth-Token": admin.token}).body
    return body


def counts(client: Client) -> dict[str, int | str]:
    """How many there are of each thing, or the cause why it cannot be said."""
    found: dict[str, int | str] = {}
    for name, service, path, key in COUNTS:
        try:
            count = len(client.get(service, path)[key])
            found[name] = f"{count} or more" if name == "images" and count == COUNT_MAX else count
        except ApiError as error:
            found[name] = error.message
    return found


def rendered(report: dict[str, Any]) -> str:
    serving = "serves" if report["serves"] else "does not serve"
    head = f"The cloud in {report['state']} {serving} at {report['url']} (external subnet {report['external_subnet']})."
    rows = [
        (row["name"], row["pid"] or "stopped", "-" if row["pss_mb"] is None else row["pss_mb"]) for row in report["processes"]
    ]
    parts = [head, table(("process", "pid", "memory (PSS, MB)"), rows)]
    if report["serves"]:
        parts.append(table(HOST_COLUMNS, [host_row(host) for host in report["hosts"][:HOSTS_SHOWN_MAX]]))
        if len(report["hosts"]) > HOSTS_SHOWN_MAX:
            parts.append(f"... and {len(report['hosts']) - HOSTS_SHOWN_MAX} more hosts (all of them: -f json)")
        if report.get("warning"):
            parts.append(report["warning"])
        servers = [(f"servers {state}", count) for state, count in sorted(report["servers"].items())]
        parts.append(table(("thing", "count"), [("hosts up", report["hosts_up"]), *servers, *report["counts"].items()]))
    return "\n\n".join(parts)


def host_row(host: dict[str, Any]) -> tuple[object, ...]:
    state = "up" if host["alive"] else "down"
    vcpus, memory_mb = f"{host['claimed_vcpus']}/{host['vcpus']}", f"{host['claimed_memory_mb']}/{host['memory_mb']}"
    return host["hostname"], state if host["enabled"] else f"{state}, disabled", host["guests"], vcpus, memory_mb


@click.command()
@format_option
def version(form: str) -> None:
    """Show the version."""
    if form == "json":
        emit_json({"version": nacre.__version__})
    else:
        click.echo(f"nacre {nacre.__version__}")
