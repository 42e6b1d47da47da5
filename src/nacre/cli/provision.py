"""What the first `up` makes: the user, the state directory, passwords, and the files that clients and processes read."""

import grp
import json
import os
import pwd
import re
import secrets
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import cast

import click
import msgspec

from nacre.api.config import ApiConfig, Bootstrap
from nacre.cli import database, source, subnets
from nacre.cli import settings as operator_settings
from nacre.cli.host import parse_place, reachable
from nacre.cli.state import API_USER, FACTS, Cloud, State, register, registered, say, write
from nacre.cloud.scheduler import Strategy
from nacre.node.config import NodeConfig, criu_of

SOCKET_PATH_MAX = 107
"""The longest path of a unix socket (unix(7))."""


def ensure_user() -> None:
    """The system user that runs the API process."""
    try:
        pwd.getpwnam(API_USER)
    except KeyError:
        say(f"making the system user {API_USER}")
        command = (
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            API_USER,
        )
        subprocess.run(command, check=True)


def new_cloud(port: int | None, simulated_hosts: int) -> Cloud:
    """Decides what stays decided."""
    taken = registered()
    chosen = port or subnets.choose_port()
    if port is not None and not subnets.port_free(port):
        raise click.ClickException(f"port {port} is in use on this machine: choose another with --port")
    if port is None and chosen != subnets.PORT_FIRST:
        say(f"port {subnets.PORT_FIRST} is taken, so the cloud serves on {chosen} (choose with --port)")
    cloud_id = next(name for name in (secrets.token_hex(2) for _ in range(1000)) if name not in taken)
    return Cloud(
        cloud_id=cloud_id,
        host_id=str(uuid.uuid4()),
        port=chosen,
        external_cidr=str(subnets.choose_subnet()),
        simulated_hosts=simulated_hosts,
        user=API_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name,
        images=[],
    )


def check_place(state: State, cloud: Cloud) -> None:
    """Raises ClickException when the cloud's processes could not work in this directory."""
    if len(str(state.docker / f"{uuid.UUID(int=0).hex}.sock")) > SOCKET_PATH_MAX:
        raise click.ClickException(f"{state.dir} is too long a path for a unix socket in it: choose a shorter --state")
    state.dir.chmod(0o755)
    closed = source.closed_parent(state.dir) if os.geteuid() == 0 else None
    if closed is not None:
        raise click.ClickException(
            f"the user {cloud.user} cannot reach {state.dir}: {closed} is closed to it; choose another --state"
        )


def make_directories(state: State, cloud: Cloud) -> None:
    """The layout, with its owners. Repeated at each start, so a half-made one is completed."""
    account = pwd.getpwnam(cloud.user)
    node_owner = (account.pw_uid, account.pw_gid) if cloud.simulated_hosts else (os.geteuid(), os.getegid())
    rows = (
        (state.api, 0o750, account.pw_uid, account.pw_gid),
        (state.docker, 0o711, account.pw_uid, account.pw_gid),
        (state.node, 0o711, *node_owner),
        (state.run, 0o755, os.geteuid(), os.getegid()),
        (state.log, 0o750, os.geteuid(), os.getegid()),
        (state.code, 0o755, os.geteuid(), os.getegid()),
        (state.facts, 0o755, os.geteuid(), os.getegid()),
        (state.bootstrap.parent, 0o750, os.geteuid(), account.pw_gid),
    )
    for path, mode, uid, gid in rows:
        path.mkdir(exist_ok=True)
        path.chmod(mode)
        os.chown(path, uid, gid)


def write_secrets(state: State, cloud: Cloud) -> None:
    """Passwords and the files that hold them; made once."""
    if not state.bootstrap.exists():
        made = Bootstrap(admin_password=secrets.token_urlsafe(18), demo_password=secrets.token_urlsafe(18))
        gid = grp.getgrgid(pwd.getpwnam(cloud.user).pw_gid).gr_gid
        write(state.bootstrap, msgspec.json.encode(made).decode(), mode=0o640, gid=gid)
    first = msgspec.json.decode(state.bootstrap.read_bytes(), type=Bootstrap)
    for path, content in ((state.clouds_yaml, clouds_yaml(cloud, first)), (state.openrc, openrc(state, cloud, first))):
        if path.exists():
            # An operator may have changed a password here; only the port is ours to change.
            content = re.sub(r"http://127\.0\.0\.1:\d+", cloud.url, path.read_text())
        write(path, content, mode=0o600)


def clouds_yaml(cloud: Cloud, first: Bootstrap) -> str:
    lines = ["# Made by `nacre up`. Use it with: export OS_CLIENT_CONFIG_FILE=<this file> OS_CLOUD=nacre", "clouds:"]
    for name, user, project, password in (
        ("nacre-admin", "admin", "admin", first.admin_password),
        ("nacre", "demo", "demo", first.demo_password),
    ):
        lines += [
            f"  {name}:",
            "    auth:",
            f"      auth_url: {cloud.url}/identity/v3",
            f"      username: {user}",
            f"      password: {json.dumps(password)}",
            f"      project_name: {project}",
            "      user_domain_name: Default",
            "      project_domain_name: Default",
            "    region_name: RegionOne",
            "    identity_api_version: 3",
        ]
    return "\n".join(lines) + "\n"


def openrc(state: State, cloud: Cloud, first: Bootstrap) -> str:
    values = {
        "OS_AUTH_URL": f"{cloud.url}/identity/v3",
        "OS_USERNAME": "demo",
        "OS_PASSWORD": first.demo_password,
        "OS_PROJECT_NAME": "demo",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "RegionOne",
        "OS_IDENTITY_API_VERSION": "3",
    }
    head = f"# An ordinary user's environment. For the administrator: OS_CLIENT_CONFIG_FILE={state.clouds_yaml} OS_CLOUD=nacre-admin\n"
    return head + "unset OS_CLOUD\n" + "".join(f"export {name}={json.dumps(value)}\n" for name, value in values.items())


def write_configs(state: State, cloud: Cloud, code: Path) -> None:
    """The configurations of the API, the node and their supervisor. Written at each start."""
    account = pwd.getpwnam(cloud.user)
    node_user = cloud.user if cloud.simulated_hosts else pwd.getpwuid(os.geteuid()).pw_name
    node_account = pwd.getpwnam(node_user)
    api = ApiConfig(
        state_dir=str(state.api),
        cloud_id=cloud.cloud_id,
        port=cloud.port,
        public_url=cloud.url,
        gateway_socket=str(state.gateway_socket),
        node_uids=(node_account.pw_uid,),
        external=subnets.external(cloud.external_cidr),
        bootstrap_file=str(state.bootstrap),
        docker_sockets=str(state.docker),
        docker_tcp_port=cloud.docker_tcp_port,
        docker_tls_port=cloud.docker_tls_port,
        nodes_bind=cloud.nodes_address,
        nodes_port=cloud.nodes_port,
        strategy=cast(Strategy, cloud.strategy),
        store_file=str(state.store) if cloud.store else "",
        **operator_settings.groups(cloud.settings),
    )
    node = NodeConfig(
        host_id=cloud.host_id,
        cloud_id=cloud.cloud_id,
        state_dir=str(state.node),
        gateway_socket=str(state.gateway_socket),
        api_uid=account.pw_uid,
        hostname=socket.gethostname(),
        simulated_hosts=cloud.simulated_hosts,
        tunnel_ip=reachable(cloud.nodes_address) if cloud.nodes_port and not cloud.simulated_hosts else None,
        facts=(str(FACTS), str(state.facts)),
        external=cloud.external_device,
        criu=criu_of(state.node_config, os.environ),
    )
    write(state.api_config, msgspec.json.encode(api).decode(), mode=0o640, gid=account.pw_gid)
    write(
        state.node_config,
        msgspec.json.encode(node).decode(),
        mode=0o640 if cloud.simulated_hosts else 0o600,
        gid=node_account.pw_gid,
    )
    root = os.geteuid() == 0
    children = [
        child(state, code, "api", state.api_config, cloud.user if root else None),
        child(state, code, "node", state.node_config, node_user if root and cloud.simulated_hosts else None),
    ]
    write(state.supervisor_config, json.dumps({"run": str(state.run), "children": children}), mode=0o600)


def child(state: State, code: Path, name: str, config: Path, user: str | None) -> dict[str, object]:
    """One process for the supervisor to keep running."""
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(state.api if name == "api" else state.node),
        "PYTHONPATH": str(code),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", f"nacre.{name}", "--config", str(config)]
    return {"name": name, "command": command, "env": env, "user": user, "log": str(state.log_file(name))}


def settle(
    state: State,
    port: int | None,
    simulate: int | None,
    docker_tcp: int | None = None,
    docker_tls: int | None = None,
    strategy: str | None = None,
    settings: tuple[str, ...] = (),
    nodes: str | None = None,
    external: str | None = None,
    store: str | None = None,
) -> Cloud:
    """The cloud of a state directory as it shall run now: made at the first start, otherwise with the port that was asked for."""
    cloud = state.load()
    if cloud is None:
        if state.dir.exists() and any(path != state.lock for path in state.dir.iterdir()):
            raise click.ClickException(f"{state.dir} is not empty and holds no cloud: choose another --state")
        cloud = new_cloud(port, simulate or 0)
        if store is not None:
            database.check_empty(store)
            cloud.store = database.without_password(store)
    elif store is not None:
        database.check_change(cloud, store)
        cloud.store = database.without_password(store)
    if simulate is not None and bool(simulate) != bool(cloud.simulated_hosts):
        kind = "simulated" if cloud.simulated_hosts else "real"
        raise click.ClickException(f"the cloud in {state.dir} has {kind} guests and keeps them: make another with --state DIR")
    if port is not None and port != cloud.port:
        if not subnets.port_free(port):
            raise click.ClickException(f"port {port} is in use on this machine: choose another with --port")
        cloud.port = port
    if docker_tcp is not None:
        cloud.docker_tcp_port = docker_tcp
    if docker_tls is not None:
        if docker_tls and not subnets.port_free(docker_tls):
            raise click.ClickException(f"port {docker_tls} is in use on this machine: choose another with --docker-tls")
        cloud.docker_tls_port = docker_tls
    if nodes is not None:
        address, place = parse_place(nodes)
        if place and not subnets.port_free(place):
            raise click.ClickException(f"port {place} is in use on this machine: choose another with --nodes")
        cloud.nodes_address, cloud.nodes_port = address, place
    if external is not None:
        if external and external not in {name for _, name in socket.if_nameindex()}:
            raise click.UsageError(f"--external {external}: there is no such network device here")
        cloud.external_device = external
    cloud.strategy = strategy or cloud.strategy
    cloud.settings = operator_settings.merged(cloud.settings, settings)
    cloud.simulated_hosts = simulate or cloud.simulated_hosts
    check_place(state, cloud)
    # From here on `down --purge` can undo whatever is half made.
    state.save(cloud)
    if os.geteuid() == 0:
        register(cloud.cloud_id, state.dir)
        ensure_user()
    make_directories(state, cloud)
    write_secrets(state, cloud)
    if store is not None:
        database.keep(state, cloud, store)
    return cloud
