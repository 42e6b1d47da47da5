"""`nacre stack`: Tutum's stack files on this cloud, over the API that Tutum's clients speak."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from nacre.cli.client import ApiError, Client, read_clouds, send
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.stackfile import StackFileError, parse
from nacre.cli.state import opened, say, state_option

Row = dict[str, Any]

FILES = ("tutum.yml", "docker-cloud.yml")
PAGE = 100
PAGES_MAX = 1000
LOOK_EVERY_S = 0.3
WAIT_S = 600.0
PASSING = frozenset(("Not running", "Starting", "Scaling", "Redeploying", "Stopping", "Terminating"))
"""States that do not stay as they are."""

project_option = click.option("--project", default="demo", show_default=True, help="The project, by name.")
wait_option = click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it is done.")


class Api:
    """The project's part of the API."""

    def __init__(self, directory: Path | None, project: str) -> None:
        state = opened(directory)
        self.base = state.require().url
        clouds = read_clouds(state.clouds_yaml)
        own = [config for config in clouds.values() if config["auth"]["project_name"] == project]
        config = own[0] if own else clouds["nacre-admin"]
        client = Client("", {**config, "auth": {**config["auth"], "project_name": project}})
        client.authenticate()
        self.headers = {"X-Auth-Token": client.token, "Content-Type": "application/json"}

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """`path` begins after /api/v1, or is a resource's URI."""
        path = path if path.startswith("/api/") else f"/api/v1{path}"
        return send(method, self.base + path, self.headers, None if body is None else json.dumps(body).encode()).body

    def every(self, path: str) -> list[Row]:
        """All pages of a list."""
        found: list[Row] = []
        where: str | None = f"{path}{'&' if '?' in path else '?'}limit={PAGE}"
        for _ in range(PAGES_MAX):
            if where is None:
                break
            page = self("GET", where)
            found += page["objects"]
            where = page["meta"]["next"]
        return found

    def stack(self, name: str) -> Row | None:
        found = self.every(f"/stack/?name={quote(name, safe='')}")
        return next((row for row in found if row["state"] != "Terminating"), None)

    def required(self, name: str) -> Row:
        """Raises ClickException."""
        found = self.stack(name)
        if found is None:
            raise click.ClickException(f"there is no stack {name}")
        return found

    def services(self, stack: Row) -> list[Row]:
        return [self("GET", uri) for uri in stack["services"]]

    def service(self, name: str) -> Row:
        """By SERVICE, or SERVICE.STACK. Raises ClickException."""
        head, _, stack = name.partition(".")
        found = self.every(f"/service/?name={quote(head, safe='')}" + (f"&stack__name={quote(stack, safe='')}" if stack else ""))
        if len(found) != 1:
            why = f"there is no service {name}" if not found else f"several services are named {head}: say SERVICE.STACK"
            raise click.ClickException(why)
        return found[0]


@click.group()
def stack() -> None:
    """Bring up stacks of services from Tutum's stack files."""


def read_file(path: Path | None) -> tuple[Path, list[Row]]:
    """Raises ClickException that names line and key."""
    if path is None:
        path = next((Path(name) for name in FILES if Path(name).exists()), None)
        if path is None:
            raise click.ClickException(f"there is no {' or '.join(FILES)} here: say which file with -f")
    try:
        return path, parse(path.read_text(), os.environ)
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{path} is not UTF-8") from None
    except StackFileError as error:
        raise click.ClickException(f"{path}: {error}") from None


def settled(api: Api, services: Callable[[], list[Row]], timeout_s: float = WAIT_S) -> None:
    """Wait until no service is on its way. Raises ClickException with the causes after that time."""
    end, shown = time.monotonic() + timeout_s, ""
    while True:
        rows = services()
        line = ", ".join(f"{row['name']} {row['state']}" + (f" ({row['cause']})" if row["cause"] else "") for row in rows)
        if line != shown:
            say(line)
            shown = line
        if not any(row["state"] in PASSING for row in rows):
            return
        if time.monotonic() > end:
            raise click.ClickException(f"not done after {timeout_s:.0f} s: {line}")
        time.sleep(LOOK_EVERY_S)


@stack.command()
@state_option
@project_option
@wait_option
@click.option("-f", "--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="tutum.yml by default.")
@click.option("--name", help="The stack's name; by default that of the file's folder.")
@click.option("--timeout", "timeout_s", default=WAIT_S, show_default=True, help="How many seconds to wait.")
def up(directory: Path | None, project: str, wait: bool, path: Path | None, name: str | None, timeout_s: float) -> None:
    """Make the stack of a file and start it; again: make the stack what the file says."""
    path, services = read_file(path)
    name = name or re.sub(r"[^A-Za-z0-9-]+", "-", path.resolve().parent.name).strip("-")
    api = Api(directory, project)
    known = api.stack(name)
    if known is None:
        made = api("POST", "/stack/", {"name": name, "services": services})
        api("POST", f"{made['resource_uri']}start/")
    else:
        made = api("PATCH", known["resource_uri"], {"services": services})
        for row in api.services(made):
            if row["state"] in ("Not running", "Stopped"):
                api("POST", f"{row['resource_uri']}start/")
            elif not row["synchronized"]:
                api("POST", f"{row['resource_uri']}redeploy/")
    if wait:
        settled(api, lambda: api.services(api.required(name)), timeout_s)
    click.echo(name)


@stack.command("ls")
@state_option
@project_option
@format_option
def list_stacks(directory: Path | None, project: str, form: str) -> None:
    """List stacks."""
    rows = Api(directory, project).every("/stack/")
    if form == "json":
        emit_json(rows)
        return
    columns = ("name", "uuid", "state", "services", "deployed")
    cells = [[row["name"], row["uuid"], row["state"], len(row["services"]), row["deployed_datetime"]] for row in rows]
    click.echo(table(columns, cells))


@stack.command()
@click.argument("name", metavar="STACK")
@state_option
@project_option
@format_option
def ps(name: str, directory: Path | None, project: str, form: str) -> None:
    """List a stack's services and their containers."""
    api = Api(directory, project)
    services = api.services(api.required(name))
    containers = {
        row["resource_uri"]: row for service in services for row in api.every(f"/container/?service={service['resource_uri']}")
    }
    if form == "json":
        emit_json(
            [{**service, "containers": [containers.get(uri, uri) for uri in service["containers"]]} for service in services]
        )
        return
    cells = []
    for service in services:
        counts = f"{service['running_num_containers']}/{service['target_num_containers']}"
        cells.append([service["name"], service["state"], counts, service["image_name"], "", service["cause"] or ""])
        own = [row for row in containers.values() if row["service"] == service["resource_uri"]]
        cells += [[f"  {row['name']}", row["state"], "", "", row["private_ip"] or "", row["cause"] or ""] for row in own]
    click.echo(table(("name", "state", "running", "image", "address", "cause"), cells))


@stack.command()
@click.argument("changes", metavar="SERVICE=NUMBER...", nargs=-1, required=True)
@state_option
@project_option
@wait_option
def scale(changes: tuple[str, ...], directory: Path | None, project: str, wait: bool) -> None:
    """Give services as many containers: web=5, or web.shop=5 where two stacks have a web."""
    api = Api(directory, project)
    wanted = []
    for change in changes:
        name, equals, number = change.partition("=")
        if not equals or not number.isdigit():
            raise click.UsageError(f"{change}: say SERVICE=NUMBER")
        wanted.append((api.service(name), int(number)))
    for row, target in wanted:
        api("PATCH", row["resource_uri"], {"target_num_containers": target})
    if wait:
        settled(api, lambda: [api("GET", row["resource_uri"]) for row, _ in wanted])


@stack.command()
@click.argument("name", metavar="STACK|SERVICE")
@click.option("--new-volumes", is_flag=True, help="Do not give the new containers the volumes of the old ones.")
@state_option
@project_option
@wait_option
def redeploy(name: str, new_volumes: bool, directory: Path | None, project: str, wait: bool) -> None:
    """Make the containers of a stack, or of one service, anew."""
    api = Api(directory, project)
    found = api.stack(name)
    row = found or api.service(name)
    api("POST", f"{row['resource_uri']}redeploy/?reuse_volumes={'false' if new_volumes else 'true'}")
    if wait:
        settled(api, lambda: api.services(row) if found else [api("GET", row["resource_uri"])])


@stack.command()
@click.argument("name", metavar="STACK")
@state_option
@project_option
def export(name: str, directory: Path | None, project: str) -> None:
    """Print a stack as the file of which it could be made again."""
    import yaml

    api = Api(directory, project)
    click.echo(yaml.safe_dump(api("GET", f"{api.required(name)['resource_uri']}export/"), sort_keys=False), nl=False)


@stack.command()
@click.argument("name", metavar="STACK")
@state_option
@project_option
@wait_option
def down(name: str, directory: Path | None, project: str, wait: bool) -> None:
    """Take a stack down; nothing of it is left."""
    api = Api(directory, project)
    uri = api.required(name)["resource_uri"]
    api("DELETE", uri)
    end = time.monotonic() + WAIT_S
    while wait:
        try:
            api("GET", uri)
        except ApiError as error:
            if error.status == 404:
                return
            raise
        if time.monotonic() > end:
            raise click.ClickException(f"{name} is not gone after {WAIT_S:.0f} s; the cloud goes on")
        time.sleep(LOOK_EVERY_S)


@stack.group()
def trigger() -> None:
    """Addresses that redeploy or scale a service for whoever calls them."""


@trigger.command("add")
@click.argument("service", metavar="SERVICE")
@click.option("--name", default="", help="A name for it.")
@click.option("--operation", type=click.Choice(["redeploy", "scaleup"]), default="redeploy", show_default=True)
@state_option
@project_option
def add_trigger(service: str, name: str, operation: str, directory: Path | None, project: str) -> None:
    """Make a trigger and print its address: whoever has it may call it (POST)."""
    api = Api(directory, project)
    made = api("POST", f"{api.service(service)['resource_uri']}trigger/", {"name": name, "operation": operation.upper()})
    click.echo(api.base + made["url"])


@trigger.command("ls")
@click.argument("service", metavar="SERVICE")
@state_option
@project_option
@format_option
def list_triggers(service: str, directory: Path | None, project: str, form: str) -> None:
    """List a service's triggers."""
    api = Api(directory, project)
    rows = api.every(f"{api.service(service)['resource_uri']}trigger/")
    if form == "json":
        emit_json(rows)
        return
    click.echo(table(("name", "operation", "address"), [[row["name"], row["operation"], api.base + row["url"]] for row in rows]))


@trigger.command("rm")
@click.argument("service", metavar="SERVICE")
@click.argument("which", metavar="NAME|ADDRESS")
@state_option
@project_option
def remove_trigger(service: str, which: str, directory: Path | None, project: str) -> None:
    """Take a trigger's address back."""
    api = Api(directory, project)
    rows = api.every(f"{api.service(service)['resource_uri']}trigger/")
    found = [row for row in rows if which in (row["name"], api.base + row["url"])]
    if len(found) != 1:
        raise click.ClickException(f"{len(found)} triggers are named so: give the address of one")
    api("DELETE", found[0]["resource_uri"])
