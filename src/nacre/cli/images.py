"""`nacre image`: images are made on this machine or brought from a registry, then uploaded through the Image API like anybody's."""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from nacre.cli import busybox, packages
from nacre.cli.client import ApiError, Client, connect
from nacre.cli.state import State, opened, say, state_option

BUILD_WAIT_S = 1800.0
"""How long mmdebstrap or a transfer from a registry may take."""

DEBIAN_PACKAGES = (
    *(
        "ca-certificates",
        "curl",
        "iproute2",
        "iputils-ping",
        "less",
        "netbase",
        "openssh-server",
        "procps",
        "sudo",
    ),
    *("systemd", "systemd-sysv", "dbus", "vim-tiny"),
)

SSH_KEYS_HOOK = (
    "mkdir -p $1/etc/systemd/system/ssh.service.d && printf '%s\\n' '[Service]' ExecStartPre= "
    "'ExecStartPre=/usr/bin/ssh-keygen -A' 'ExecStartPre=/usr/sbin/sshd -t' > $1/etc/systemd/system/ssh.service.d/keys.conf"
)
"""Debian makes the host keys when the package is installed; here each server makes its own when sshd starts first."""

TRANSPORTS = ("docker", "docker-archive", "docker-daemon", "oci", "oci-archive", "containers-storage", "dir")
"""What skopeo reads from; a reference without one is a registry's."""


@click.group()
def image() -> None:
    """Build or pull images and register them."""


@image.group()
def build() -> None:
    """Make an image on this machine."""


name_option = click.option("--name", help="The image's name in the cloud.")
output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the image to a file; register nothing."
)


@build.command("busybox")
@state_option
@name_option
@output_option
def build_busybox(directory: Path | None, name: str | None, output: Path | None) -> None:
    """One static program and a shell: 2 MB, made in milliseconds, reproducible."""
    if output is not None:
        with output.open("wb") as target:
            busybox.write_tar(target)
        return
    register_busybox(opened(directory), name or "busybox")


@build.command("debian")
@state_option
@name_option
@output_option
@click.option("--suite", default="bookworm", show_default=True)
def build_debian(directory: Path | None, name: str | None, output: Path | None, suite: str) -> None:
    """Debian with an ssh server and a whole init, by mmdebstrap."""
    packages.ensure("build")

    def write(path: Path) -> None:
        say(f"mmdebstrap builds {suite} (about half a minute)")
        options = ["--variant=minbase", "--format=tar", f"--include={','.join(DEBIAN_PACKAGES)}"]
        # Keys and machine id must be each server's own.
        options += ["--customize-hook=rm -f $1/etc/ssh/ssh_host_*", "--customize-hook=: > $1/etc/machine-id"]
        options.append(f"--customize-hook={SSH_KEYS_HOOK}")
        run(["mmdebstrap", *options, suite, str(path)], env={**os.environ, "SOURCE_DATE_EPOCH": "0"})

    if output is not None:
        write(output)
        return
    properties = {"os_distro": "debian", "os_version": suite}
    with made(opened(directory), write) as path:
        register(connect(opened(directory)), name or f"debian-{suite}", path, properties)


@image.command()
@click.argument("reference")
@state_option
@name_option
@click.option(
    "--creds", help="A file with one line USER:PASSWORD for the registry.", type=click.Path(path_type=Path, exists=True)
)
def pull(reference: str, directory: Path | None, name: str | None, creds: Path | None) -> None:
    """Bring an OCI image: docker.io/library/nginx, oci:DIR:TAG, docker-archive:FILE."""
    packages.ensure("pull")
    source = source_of(reference)
    state = opened(directory)

    def write(path: Path) -> None:
        say(f"skopeo copies {source}")
        with tempfile.TemporaryDirectory() as private:
            options = []
            if creds is not None:
                options = ["--src-authfile", str(auth_file(Path(private), source, creds))]
            run(["skopeo", "copy", "--quiet", *options, source, f"oci-archive:{path}:{tag_of(reference)}"])

    with made(state, write) as path:
        register(connect(state), name or name_of(reference), path, {"container_reference": source})


def auth_file(directory: Path, source: str, creds: Path) -> Path:
    """skopeo's authfile for a registry, so that the password is in no process list."""
    import base64
    import json

    registry = source.removeprefix("docker://").split("/")[0]
    auth = base64.b64encode(creds.read_text().strip().encode()).decode()
    path = directory / "auth.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"auths": {registry: {"auth": auth}}}))
    return path


def source_of(reference: str) -> str:
    """`nginx` and `docker.io/library/nginx` become docker://docker.io/library/nginx; a transport of skopeo's stays."""
    if reference.split(":")[0] in TRANSPORTS:
        return reference
    first, _, rest = reference.partition("/")
    if not rest:
        reference = f"docker.io/library/{reference}"
    elif "." not in first and ":" not in first and first != "localhost":
        reference = f"docker.io/{reference}"
    return f"docker://{reference}"


def tag_of(reference: str) -> str:
    tail = reference.rsplit("/", 1)[-1]
    tag = tail.partition(":")[2] if "@" not in tail else ""
    return tag if re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,127}", tag) else "latest"


def name_of(reference: str) -> str:
    """`docker.io/library/nginx:1.25` is `nginx:1.25` in the cloud; a path gives its last part."""
    if reference.split(":")[0] in TRANSPORTS:
        reference = reference.partition(":")[2].removeprefix("//")
    return reference.rsplit("/", 1)[-1]


def run(command: list[str], env: dict[str, str] | None = None) -> None:
    """A tool whose output matters when it fails."""
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_WAIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise click.ClickException(f"{command[0]} took longer than {BUILD_WAIT_S:.0f} s") from error
    if done.returncode:
        raise click.ClickException(f"{command[0]} failed:\n{done.stderr.strip()[-2000:]}")


@contextmanager
def made(state: State, write: Callable[[Path], None]) -> Iterator[Path]:
    """A temporary file with the image's bytes, beside the state (images are too big for /tmp on some machines)."""
    state.require()
    with tempfile.TemporaryDirectory(prefix="image-", dir=state.run) as directory:
        path = Path(directory) / "image.tar"
        write(path)
        yield path


def register_busybox(state: State, name: str = "busybox", *, simulated: bool = False) -> str:
    """Registers the image `busybox`. Simulated hosts unpack nothing: without busybox-static their image holds no program."""
    with tempfile.TemporaryFile() as file:
        busybox.write_tar(file, program=not simulated or not packages.missing("node"))
        file.seek(0)
        return upload(connect(state), name, file, os.fstat(file.fileno()).st_size, {"os_distro": "busybox"})


def register(client: Client, name: str, path: Path, properties: dict[str, str]) -> str:
    with path.open("rb") as file:
        return upload(client, name, file, path.stat().st_size, properties)


def upload(client: Client, name: str, file: BinaryIO, size_bytes: int, properties: dict[str, str]) -> str:
    """A public image with these bytes. Returns its id; leaves no image behind when the upload fails."""
    body = {"name": name, "container_format": "docker", "disk_format": "raw", "visibility": "public", **properties}
    made_image = client.post("image", "/images", body)
    image_id: str = made_image["id"]
    try:
        client.upload("image", f"/images/{image_id}/file", file, size_bytes)
    except ApiError:
        client.request("DELETE", "image", f"/images/{image_id}")
        raise
    say(f"image {name} registered ({size_bytes / 1e6:.1f} MB, {image_id})")
    return image_id
