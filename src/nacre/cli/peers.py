"""Further API processes of one cloud, on other machines: what they must have of it, and where image bytes lie that all of them share.

The file that `nacre api export` writes holds the cloud's keys: whoever has it is every user of the cloud.
"""

import base64
import grp
import json
import os
import pwd
from pathlib import Path
from typing import Any

import click

from nacre.cli import database
from nacre.cli.asked import Asked
from nacre.cli.state import Cloud, State, write

FORMAT = "nacre-peer-1"
KEYS = ("identity.key", "tls/ca-key.pem", "tls/ca.pem")
"""In the API user's directory: what wraps the keys that sign tokens, and the certificate authority."""
KEPT = ("external_cidr", "strategy", "settings", "public_url", "blobs", "store", "images")
"""Of cloud.json: what is one cloud's, and not one machine's."""
MARK = "cloud"
"""In the shared directory: whose image bytes these are."""


def exported(state: State, cloud: Cloud) -> dict[str, Any]:
    """Raises ClickException where there could be no other."""
    if not cloud.store or not cloud.blobs:
        raise click.ClickException(
            "API processes of other machines need a store and a directory for image bytes that they share: --store and --blobs, at the first start"
        )
    return {
        "format": FORMAT,
        "cloud_id": cloud.peer_of or cloud.cloud_id,
        "cloud": {name: getattr(cloud, name) for name in KEPT},
        "store": database.url_of(state, cloud),
        "bootstrap": state.bootstrap.read_text(),
        "keys": {name: base64.b64encode((state.api / name).read_bytes()).decode() for name in KEYS},
    }


def read(path: Path) -> dict[str, Any]:
    """Raises ClickException for what is no such file."""
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT:
            raise ValueError
        return dict(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{path} is not what `nacre api export` wrote") from error


def begin(cloud: Cloud, asked: Asked) -> None:
    """A new state directory's cloud is the one in the file, but for what is this machine's own. Raises ClickException."""
    assert asked.peer is not None
    if asked.store is not None or asked.blobs is not None:
        raise click.ClickException(
            "the store and the directory of image bytes are said in the file: leave --store and --blobs out"
        )
    found = read(asked.peer)
    for name in KEPT:
        setattr(cloud, name, found["cloud"][name])
    cloud.peer_of = found["cloud_id"]
    mark = Path(cloud.blobs) / MARK
    if not mark.is_file() or mark.read_text().strip() != cloud.peer_of:
        raise click.ClickException(
            f"{cloud.blobs} is not the directory of the cloud's image bytes: it must be shared among the machines"
        )


def take(state: State, cloud: Cloud, path: Path) -> None:
    """Keys and secrets, each readable by the API's user alone, or by root."""
    found = read(path)
    account = pwd.getpwnam(cloud.user)
    (state.api / "tls").mkdir(mode=0o700, exist_ok=True)
    os.chown(state.api / "tls", account.pw_uid, account.pw_gid)
    for name in KEYS:
        target = state.api / name
        write(target, base64.b64decode(found["keys"][name]).decode(), mode=0o644 if name.endswith("ca.pem") else 0o600)
        os.chown(target, account.pw_uid, account.pw_gid)
    gid = grp.getgrgid(account.pw_gid).gr_gid
    write(state.bootstrap, found["bootstrap"], mode=0o640, gid=gid)
    database.keep(state, cloud, found["store"])


def mark_blobs(state: State, cloud: Cloud) -> None:
    """The shared directory says whose it is, and belongs to the API's user. Raises ClickException for another cloud's."""
    if not cloud.blobs:
        return
    folder, ident = Path(cloud.blobs), cloud.peer_of or cloud.cloud_id
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    if not mark.exists():
        if any(folder.iterdir()):
            raise click.ClickException(f"{folder} is not empty and is no cloud's directory of image bytes")
        write(mark, ident + "\n", mode=0o644)
    elif mark.read_text().strip() != ident:
        raise click.ClickException(f"{folder} is another cloud's directory of image bytes")
    account = pwd.getpwnam(cloud.user)
    if folder.stat().st_uid != account.pw_uid:
        os.chown(folder, account.pw_uid, account.pw_gid)
    folder.chmod(0o750)
