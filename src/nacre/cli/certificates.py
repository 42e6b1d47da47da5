"""`nacre docker env --tls` and `nacre docker certificates`: keys that are made here, and certificates that the cloud signs and revokes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from nacre.cli.client import ApiError, Client, connect, send
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import COMMAND, State, opened, say, state_option, write

DAYS_MAX = 90


@dataclass(frozen=True)
class Desk:
    """Where one project's certificates are made, for an administrator."""

    admin: Client
    project_id: str
    url: str

    def call(self, method: str, path: str = "", body: Any = None) -> Any:
        headers = {"X-Auth-Token": self.admin.token, "Content-Type": "application/json"}
        return send(method, self.url + path, headers, None if body is None else json.dumps(body).encode()).body

    def user_id(self, user: str) -> str:
        """Raises ClickException for one that is not there, or a name that several domains have."""
        found = self.admin.get("identity", f"/users?name={quote(user, safe='')}")["users"]
        if len(found) == 1:
            return str(found[0]["id"])
        if found:
            raise click.ClickException(
                f"several users are named {user}: give the id of one of {', '.join(u['id'] for u in found)}"
            )
        try:
            return str(self.admin.get("identity", f"/users/{quote(user, safe='')}")["user"]["id"])
        except ApiError as error:
            if error.status == 404:
                raise click.ClickException(f"there is no user {user}") from None
            raise


def desk_of(state: State, project: str) -> Desk:
    from nacre.cli.docker import project_id_of

    cloud = state.require()
    admin = connect(state)
    ident = project_id_of(admin, project)
    return Desk(admin, ident, f"{cloud.url}/nacre/v1/projects/{ident}/docker-certificates")


def variables(state: State, project: str, user: str, directory: Path, days: int) -> dict[str, str]:
    """What makes `docker` speak TLS to a project. A certificate that is in the directory already, and good, stays."""
    cloud = state.require()
    if not cloud.docker_tls_port:
        raise click.ClickException(
            f"the cloud serves no TLS: {COMMAND} down{state.option}, then {COMMAND} up --docker-tls 2376{state.option}"
        )
    desk = desk_of(state, project)
    user_id = desk.user_id(user)
    place = directory.absolute()
    if not _holds_good(desk, user_id, place):
        _obtain(desk, user_id, place, days)
    host = urlsplit(cloud.url).hostname
    return {
        "DOCKER_HOST": f"tcp://{host}:{cloud.docker_tls_port}",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(place),
    }


def _holds_good(desk: Desk, user_id: str, place: Path) -> bool:
    """Whether a key and its certificate lie there that the cloud would take from this user."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificate((place / "cert.pem").read_bytes())
        authority = (place / "ca.pem").read_text()
        key = load_pem_private_key((place / "key.pem").read_bytes(), None)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, TypeError) as error:
        raise click.ClickException(f"{place} holds other things than a certificate and its key: {error}") from None
    serial = f"{certificate.serial_number:x}"
    listed = desk.call("GET")
    known = [
        row for row in listed["certificates"] if (row["serial"], row["user_id"], row["revoked_at"]) == (serial, user_id, None)
    ]
    return bool(known) and authority == listed["ca"] and key.public_key() == certificate.public_key()


def _obtain(desk: Desk, user_id: str, place: Path, days: int) -> None:
    """The key never leaves this machine."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.PEM).decode()
    made = desk.call("POST", body={"csr": csr, "user_id": user_id, "days": days})
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()
    try:
        if not place.is_dir():
            place.mkdir(parents=True)
            place.chmod(0o700)
        write(place / "key.pem", pem, mode=0o600)
        write(place / "cert.pem", made["certificate"]["pem"], mode=0o644)
        write(place / "ca.pem", made["ca"], mode=0o644)
    except OSError as error:
        raise click.ClickException(f"cannot write to {place}: {error.strerror}") from error
    say(f"certificate {made['certificate']['serial']} is good until {made['certificate']['expires_at']}")


project_option = click.option("--project", default="demo", show_default=True, help="The project, by name or id.")


@click.group()
def certificates() -> None:
    """The certificates of a project's Docker clients."""


@certificates.command("list")
@state_option
@project_option
@format_option
def list_all(directory: Path | None, project: str, form: str) -> None:
    """List those that have not expired, the newest first."""
    rows = desk_of(opened(directory), project).call("GET")["certificates"]
    if form == "json":
        emit_json(rows)
        return
    columns = ("serial", "user_id", "issued_at", "expires_at", "revoked_at")
    click.echo(table(columns, [[row[name] or "-" for name in columns] for row in rows]))


@certificates.command()
@state_option
@project_option
@click.argument("serials", metavar="SERIAL...", nargs=-1, required=True)
def revoke(directory: Path | None, project: str, serials: tuple[str, ...]) -> None:
    """Make certificates worth nothing from the next request on."""
    desk = desk_of(opened(directory), project)
    for serial in serials:
        desk.call("DELETE", f"/{quote(serial, safe='')}")
        say(f"{serial} is revoked")
