"""`nacre join`: makes this machine a host of a cloud that serves elsewhere. Idempotent; what was begun is gone on with."""

import hashlib
import json
import os
import re
import secrets
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from nacre.cli import packages, processes, provision, source
from nacre.cli.client import ApiError, send
from nacre.cli.down import remove, remove_empty
from nacre.cli.state import COMMAND, FACTS, Cloud, State, opened, register, registered, say, state_option, write
from nacre.cli.up import POLL_S, READY_WAIT_S, locked, start_supervisor, stop_processes, tail
from nacre.node.acceptance import against, examine, host_checks
from nacre.node.config import JoinedHost, NodeConfig, criu_of

CLOCK_SKEW_MAX_S = 240.0
"""A certificate begins five minutes before it is made; a clock that is further behind would take it for one of the future."""
HOSTS_MAX = 1000
WRITERS = 16
"""Files that are written at the same time."""
TOKEN = re.compile(r"([A-Za-z0-9_-]{16,128})\.([0-9a-f]{64})")
REFUSED = (400, 401, 403, 409, 413)
"""Answers to an enrolment by which nothing came to be, here or there."""


@dataclass(frozen=True)
class Asked:
    """What the command was given."""

    url: str
    token: str
    tunnel_ip: str | None
    simulate: int
    name: str
    external: str = ""


@click.command()
@click.argument("url", required=False)
@click.option("--token", help="What `nacre host token` printed on the cloud's machine; good once. `-` reads it from stdin.")
@state_option
@click.option(
    "--tunnel-ip", metavar="ADDRESS", help="Where other hosts reach this one's networks (the address that leads to the cloud)."
)
@click.option(
    "--external",
    metavar="DEVICE",
    help="A network device that leads to the external network, given to it whole: routers may be here then.",
)
@click.option("--name", help="The host's name in the cloud (this machine's own); with --simulate what their names begin with.")
@click.option(
    "--simulate",
    type=click.IntRange(1, HOSTS_MAX),
    metavar="N",
    help="Join N simulated hosts instead of this machine; needs no root.",
)
def join(
    url: str | None,
    token: str | None,
    directory: Path | None,
    tunnel_ip: str | None,
    external: str | None,
    name: str | None,
    simulate: int | None,
) -> None:
    """Make this machine a host of the cloud at URL, or say that it is one.

    Checks the machine, enrols with the token (the key never leaves this machine), starts the node and waits until the cloud has accepted it.
    After a reboot or `nacre down`: `nacre join` alone starts the node again.
    """
    state = opened(directory)
    url = url.rstrip("/") if url else None
    os.umask(0o022)
    existing = state.load()
    if existing is not None and not existing.joined:
        raise click.ClickException(f"{state.dir} is a cloud of its own: choose another --state")
    if existing is not None and url not in (None, existing.joined):
        raise click.ClickException(f"this host has joined {existing.joined}; to leave it: {COMMAND} down --purge{state.option}")
    enrolled = existing is not None and state.node_config.exists()
    if token == "-":  # noqa: S105
        # An argument can be seen by everybody on this machine until the command ends.
        token = sys.stdin.readline().strip()
    if not enrolled and (url is None or token is None):
        raise click.UsageError("say URL --token TOKEN, as `nacre host token` printed it on the cloud's machine")
    if external is not None:
        check_external(external, simulated=bool(simulate), enrolled=enrolled)
    if not (simulate or (existing and existing.simulated_hosts)):
        prepare(state)
    with locked(state):
        if not enrolled:
            enrol_or_nothing(state, Asked(url or "", token or "", tunnel_ip, simulate or 0, name or "", external or ""))
        cloud = state.load()
        assert cloud is not None
        started = start(state)
        await_accepted(state, cloud)
    say(next_steps(state, cloud, started=started))


def check_external(device: str, *, simulated: bool, enrolled: bool) -> None:
    """Raises ClickException, UsageError."""
    if simulated:
        raise click.UsageError("a simulated host has no devices: leave --external out")
    if enrolled:
        raise click.ClickException("this host has joined already: its external device is chosen when it joins")
    if device not in {name for _, name in socket.if_nameindex()}:
        raise click.UsageError(f"--external {device}: there is no such network device here")


def prepare(state: State) -> None:
    """Real guests: packages, and what `doctor` checks of a host. Raises ClickException with what is missing."""
    if os.geteuid() != 0:
        raise click.ClickException(
            "real guests need root. Run: sudo ./nacre join ...\nWithout root there are simulated hosts: --simulate N"
        )
    packages.ensure("node")
    if state.node_config.exists():
        return
    there = next(path for path in (state.dir, *state.dir.parents) if path.is_dir())
    found = against([examine(check) for check in host_checks(there)])
    if found:
        raise click.ClickException(f"this machine cannot be a host yet:\n{found}")


def enrol_or_nothing(state: State, asked: Asked) -> None:
    """Where it failed before anything came to be, the directory that was made for our lock goes too."""
    try:
        enrol(state, asked)
    except click.ClickException:
        if state.dir.exists() and all(path == state.lock for path in state.dir.iterdir()):
            remove_empty(state)
        raise


def enrol(state: State, asked: Asked) -> None:
    """From nothing to a configured node. A refusal leaves nothing; after a lost answer the same command goes on with the same keys."""
    secret, fingerprint = parse_token(asked.token)
    authority = fetch_authority(asked.url, fingerprint)
    cloud = state.load() or begin(state, asked)
    tls = state.node / "tls"
    tls.mkdir(mode=0o700, exist_ok=True)
    hostnames = names_of(asked)
    # Each file is on disk before it counts: hundreds of them wait for the disk together.
    with ThreadPoolExecutor(WRITERS) as pool:
        requests = pool.map(request_for, [tls / f"{number:04}-key.pem" for number in range(len(hostnames))])
        hosts = [{"csr": csr, "hostname": hostname} for csr, hostname in zip(requests, hostnames, strict=True)]
    body = {"secret": secret, "hosts": hosts}
    write(tls / "authority.pem", authority, mode=0o644)
    try:
        headers = {"Content-Type": "application/json"}
        context = verifying(tls / "authority.pem")
        issued = send("POST", f"{asked.url}/enrol", headers, json.dumps(body).encode(), context=context).body["hosts"]
    except ApiError as error:
        if error.status in REFUSED:
            discard(state, cloud)
            raise click.ClickException(f"the cloud refuses: {error.cause}") from error
        raise click.ClickException(f"{error.message}\nNothing is lost: the same command goes on from here.") from error
    with ThreadPoolExecutor(WRITERS) as pool:
        kept = [pool.submit(write, tls / f"{number:04}.pem", host["pem"], mode=0o644) for number, host in enumerate(issued)]
        for done in kept:
            done.result()
    configure(state, cloud, asked, issued)


def parse_token(token: str) -> tuple[str, str]:
    """The secret, and the fingerprint of the authority's certificate."""
    matched = TOKEN.fullmatch(token.strip())
    if matched is None:
        raise click.ClickException("the token is not whole: take the line that `nacre host token` printed")
    return matched[1], matched[2]


def fetch_authority(url: str, fingerprint: str) -> str:
    """The authority's certificate, which must have the fingerprint. Nothing is told to the other side before that is known."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or not parts.port or parts.path not in ("", "/"):
        raise click.ClickException(f"{url} is not https://ADDRESS:PORT")
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    found = send("GET", f"{url}/enrol", context=unverified).body
    try:
        pem, theirs = str(found["ca"]), float(found["time"])
        seen = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    except (TypeError, KeyError, ValueError) as error:
        raise click.ClickException(f"what answers at {url} is no cloud's door for hosts") from error
    if seen != fingerprint:
        raise click.ClickException(
            f"what answers at {url} is not the cloud that made the token: its authority's fingerprint is {seen}, not {fingerprint}. "
            "Nothing was sent to it."
        )
    check_clock(theirs, time.time())
    return pem


def check_clock(theirs_s: float, ours_s: float) -> None:
    """Certificates are held against the clock: an error now is clearer than a handshake that fails later."""
    if abs(ours_s - theirs_s) > CLOCK_SKEW_MAX_S:
        how = "ahead of" if ours_s > theirs_s else "behind"
        raise click.ClickException(
            f"this machine's clock is {abs(ours_s - theirs_s) / 60:.0f} minutes {how} the cloud's: set one of them, then try again"
        )


def verifying(authority: Path, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS to who has a server's certificate of that very authority, which is the API process alone, under whatever address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.load_verify_locations(authority)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def begin(state: State, asked: Asked) -> Cloud:
    """The state directory, with what `down --purge` needs to undo the rest."""
    if state.dir.exists() and any(path != state.lock for path in state.dir.iterdir()):
        raise click.ClickException(f"{state.dir} is not empty and holds no host: choose another --state")
    taken = registered()
    own_id = next(name for name in (secrets.token_hex(2) for _ in range(1000)) if name not in taken)
    cloud = Cloud(own_id, "", 0, "", asked.simulate, "", [], joined=asked.url)
    state.dir.chmod(0o755)
    state.save(cloud)
    if os.geteuid() == 0:
        register(cloud.cloud_id, state.dir)
    for path, mode in ((state.node, 0o711), (state.run, 0o755), (state.log, 0o750), (state.facts, 0o755)):
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    return cloud


def names_of(asked: Asked) -> list[str]:
    own = asked.name or socket.gethostname()
    return [f"{own}-{number:04}" for number in range(asked.simulate)] if asked.simulate else [own]


def request_for(path: Path) -> str:
    """A signing request by the key in that file, which is made where it is not there yet."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write(path, pem.decode(), mode=0o600)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), path
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def configure(state: State, cloud: Cloud, asked: Asked, issued: list[dict[str, Any]]) -> None:
    """The configurations of the node and its supervisor. node.json comes last: with it the host has enrolled."""
    code = source.PACKAGE.parent
    tls = state.node / "tls"
    joined = tuple(
        JoinedHost(host["host_id"], host["hostname"], str(tls / f"{number:04}.pem"), str(tls / f"{number:04}-key.pem"))
        for number, host in enumerate(issued)
    )
    node = NodeConfig(
        host_id=joined[0].host_id,
        cloud_id=cloud.cloud_id,
        state_dir=str(state.node),
        hostname=joined[0].hostname,
        simulated_hosts=asked.simulate,
        tunnel_ip=None if asked.simulate else asked.tunnel_ip or address_towards(asked.url),
        joined=joined,
        gateway_url=asked.url,
        authority_file=str(tls / "authority.pem"),
        facts=(str(FACTS), str(state.facts)),
        external=asked.external,
        criu=criu_of(state.node_config, os.environ),
    )
    cloud.host_id = joined[0].host_id
    state.save(cloud)
    children = [provision.child(state, code, "node", state.node_config, None)]
    write(state.supervisor_config, json.dumps({"run": str(state.run), "children": children}), mode=0o600)
    write(state.node_config, msgspec.json.encode(node).decode(), mode=0o600)


def address_towards(url: str) -> str:
    """The address of this machine from which packets to that URL go."""
    parts = urlsplit(url)
    family, kind, protocol, _, place = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


def start(state: State) -> bool:
    """Whether the supervisor had to be started."""
    if processes.find(state.pid_file("supervisor")) is not None:
        return False
    start_supervisor(state, source.prepare(state, shared=False))
    return True


def load_node(state: State) -> NodeConfig:
    return msgspec.json.decode(state.node_config.read_bytes(), type=NodeConfig)


def standing(config: NodeConfig, host: JoinedHost) -> dict[str, Any]:
    """What the cloud says of a host of ours. Raises ApiError."""
    context = verifying(Path(config.authority_file), Path(host.certificate), Path(host.key))
    found: dict[str, Any] = send("GET", f"{config.gateway_url}/hosts/{host.host_id}?together=1", context=context).body
    return found


def together(config: NodeConfig) -> dict[str, Any]:
    """How many of our hosts are ready, and the first that was found wanting. Raises ApiError."""
    first = standing(config, config.joined[0])
    answer: dict[str, Any] | None = first.get("together")
    if answer is not None and answer["hosts"] == len(config.joined):
        return answer
    # One of them was removed, which it is told itself; or the cloud is of the version before, and tells of one host at a time.
    each = [(host, standing(config, host)) for host in config.joined]
    wanting = next(((host, found) for host, found in each if found["acceptance"] == "failed"), None)
    return {
        "ready": sum(found["connected"] and found["acceptance"] == "accepted" for _, found in each),
        "failed": wanting and {"hostname": wanting[0].hostname, "cause": wanting[1]["acceptance_cause"]},
    }


def await_accepted(state: State, cloud: Cloud) -> None:
    """Until the cloud has a stream from every host here and has accepted it. Raises ClickException with the cause."""
    config = load_node(state)
    host, count = config.joined[0], len(config.joined)
    deadline = time.monotonic() + READY_WAIT_S
    last = ""
    while True:
        try:
            found = together(config)
        except ApiError as error:
            if error.status == 403:
                raise click.ClickException(f"the cloud refuses this host: {error.cause}") from error
            found, last = {"ready": 0, "failed": None}, error.message
        if found["ready"] >= count:
            return
        if found["failed"]:
            raise click.ClickException(
                f"{found['failed']['hostname']} has joined and gets no servers yet, for its examination failed:\n"
                f"{found['failed']['cause']}\nIt is examined again every half minute."
            )
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"{host.hostname} has enrolled, but the cloud has accepted {found['ready']} of {count} in {READY_WAIT_S:.0f} s. {last}\n"
                f"--- {state.log_file('node')}\n{tail(state.log_file('node'))}"
            )
        time.sleep(POLL_S)


def discard(state: State, cloud: Cloud) -> None:
    """Nothing came of it: the state directory goes as it came."""
    stop_processes(state)
    remove(state, cloud)


def next_steps(state: State, cloud: Cloud, *, started: bool) -> str:
    config = load_node(state)
    name, count = config.joined[0].hostname, len(config.joined)
    who = f"{name} is a host" if count == 1 else f"{count} simulated hosts, {name} and so on, are hosts"
    return "\n".join(
        (
            f"{who} of the cloud at {cloud.joined}" + (" and up." if started else " already; nothing to do."),
            "  nacre host list                                          (on the cloud's own machine)",
            f"  openstack server create --availability-zone nova:{name} ...   (as the administrator) puts a server here",
            f"  {COMMAND} status{state.option}, {COMMAND} logs{state.option}, {COMMAND} down{state.option}      (here)",
        )
    )
