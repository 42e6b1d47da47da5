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
from nacre.cli import database, peers, source, subnets
from nacre.cli import settings as operator_settings
from nacre.cli.asked import Asked
from nacre.cli.host import bracketed, reachable
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
            # An operator may have changed a password here; only where the cloud serves is ours to change.
            content = re.sub(r"https?://[^\s\"]+(?=/identity/v3)", cloud.public, path.read_text())
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
            f"      auth_url: {cloud.public}/identity/v3",
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
        "OS_AUTH_URL": f"{cloud.public}/identity/v3",
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
    for number, name in enumerate(cloud.api_names):
        api = api_config(state, cloud, number, node_account.pw_uid)
        write(state.run / f"{name}.json", msgspec.json.encode(api).decode(), mode=0o640, gid=account.pw_gid)
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
    write(
        state.node_config,
        msgspec.json.encode(node).decode(),
        mode=0o640 if cloud.simulated_hosts else 0o600,
        gid=node_account.pw_gid,
    )
    root = os.geteuid() == 0
    children = [
        *(child(state, code, name, state.run / f"{name}.json", cloud.user if root else None) for name in cloud.api_names),
        child(state, code, "node", state.node_config, node_user if root and cloud.simulated_hosts else None),
    ]
    write(state.supervisor_config, json.dumps({"run": str(state.run), "children": children}), mode=0o600)


def api_config(state: State, cloud: Cloud, number: int, node_uid: int) -> ApiConfig:
    """Of the API process of that number on this machine; the first one has what there is once on a machine."""
    is_first = number == 0
    nodes_port = cloud.nodes_port + number if cloud.nodes_port else 0
    return ApiConfig(
        state_dir=str(state.api),
        process="" if is_first else str(number + 1),
        cloud_id=cloud.peer_of or cloud.cloud_id,
        port=cloud.port + number,
        bind=cloud.bind or "127.0.0.1",
        host_id="" if cloud.simulated_hosts else cloud.host_id,
        public_url=cloud.public,
        gateway_socket=str(state.gateway_socket) if is_first else str(state.api / f"gateway-{number + 1}.sock"),
        node_uids=(node_uid,),
        external=subnets.external(cloud.external_cidr),
        bootstrap_file=str(state.bootstrap),
        docker_sockets=str(state.docker) if is_first else "",
        docker_tcp_port=cloud.docker_tcp_port if is_first else 0,
        docker_tls_port=cloud.docker_tls_port + number if cloud.docker_tls_port else 0,
        nodes_bind=cloud.nodes_address,
        nodes_port=nodes_port,
        nodes_url=f"https://{bracketed(cloud.nodes_address)}:{nodes_port}" if cloud.nodes_address else "",
        blobs_dir=cloud.blobs,
        strategy=cast(Strategy, cloud.strategy),
        store_file=str(state.store) if cloud.store else "",
        **operator_settings.groups(cloud.settings),
    )


def child(state: State, code: Path, name: str, config: Path, user: str | None) -> dict[str, object]:
    """One process for the supervisor to keep running."""
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(state.node if name == "node" else state.api),
        "PYTHONPATH": str(code),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "nacre.node" if name == "node" else "nacre.api", "--config", str(config)]
    return {"name": name, "command": command, "env": env, "user": user, "log": str(state.log_file(name))}


def settle(state: State, asked: Asked) -> Cloud:
    """The cloud of a state directory as it shall run now: made at the first start, otherwise as before but for what was asked for."""
    cloud = state.load()
    if cloud is None:
        if state.dir.exists() and any(path != state.lock for path in state.dir.iterdir()):
            raise click.ClickException(f"{state.dir} is not empty and holds no cloud: choose another --state")
        cloud = new_cloud(asked.port, asked.simulate or 0)
        if asked.peer is not None:
            peers.begin(cloud, asked)
        elif asked.store is not None:
            database.check_empty(asked.store)
            cloud.store = database.without_password(asked.store)
    elif asked.peer is not None:
        raise click.ClickException(f"{state.dir} holds a cloud already: choose another --state for further API processes")
    elif asked.store is not None:
        database.check_change(cloud, asked.store)
        cloud.store = database.without_password(asked.store)
    change(state, cloud, asked)
    check_place(state, cloud)
    # From here on `down --purge` can undo whatever is half made.
    state.save(cloud)
    if os.geteuid() == 0:
        register(cloud.cloud_id, state.dir)
        ensure_user()
    make_directories(state, cloud)
    if asked.peer is not None:
        peers.take(state, cloud, asked.peer)
    write_secrets(state, cloud)
    if asked.store is not None:
        database.keep(state, cloud, asked.store)
    peers.mark_blobs(state, cloud)
    return cloud


def change(state: State, cloud: Cloud, asked: Asked) -> None:
    """What was asked for becomes so, in memory. Raises ClickException for what cannot be."""
    if asked.simulate is not None and bool(asked.simulate) != bool(cloud.simulated_hosts):
        kind = "simulated" if cloud.simulated_hosts else "real"
        raise click.ClickException(f"the cloud in {state.dir} has {kind} guests and keeps them: make another with --state DIR")
    if asked.folder is not None and asked.folder != cloud.blobs:
        if state.blobs.exists() or cloud.blobs:
            raise click.ClickException("image bytes are there already: where they lie is said at the first start")
        cloud.blobs = asked.folder
    place = asked.place
    for option, before, wanted in (
        ("--port", cloud.port, asked.port),
        ("--docker-tls", 0, asked.docker_tls),
        ("--nodes", 0, place and place[1]),
    ):
        if wanted and wanted != before and not subnets.port_free(wanted):
            raise click.ClickException(f"port {wanted} is in use on this machine: choose another with {option}")
    if asked.external and asked.external not in {name for _, name in socket.if_nameindex()}:
        raise click.UsageError(f"--external {asked.external}: there is no such network device here")
    for name, value in (
        ("port", asked.port),
        ("docker_tcp_port", asked.docker_tcp),
        ("docker_tls_port", asked.docker_tls),
        ("nodes_address", place and place[0]),
        ("nodes_port", place and place[1]),
        ("external_device", asked.external),
        ("strategy", asked.strategy),
        ("simulated_hosts", asked.simulate),
        ("public_url", asked.public_url),
        ("bind", asked.address),
        ("processes", asked.processes),
    ):
        if value is not None:
            setattr(cloud, name, value)
    cloud.settings = operator_settings.merged(cloud.settings, asked.settings)
    if (cloud.processes > 1 or cloud.peer_of) and not (cloud.store and cloud.nodes_port and cloud.nodes_address):
        raise click.ClickException(
            "several API processes need a store that they share and an address for nodes: --store URL --nodes ADDRESS:PORT"
        )
