"""What a server's maker has put into it: root's password and files. Before a boot they are written into the root file system, which nobody
else changes then; a running guest changes its own password, by a program of ours that is started in it."""

from pathlib import Path

from nacre.node.runtimes.containers import inside
from nacre.node.runtimes.containers.bundle import SEED
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.health import Run
from nacre.protocol.guests import InjectedFile

SHADOW_MODE = 0o640
AGES = ":19000:0:99999:7:::"
"""What follows the password in a line of /etc/shadow that is new: as Debian has it, never expiring."""
PASSWORD_WAIT_S = 20.0
HASH = "NACRE_HASH"
_SCRIPT = f"""\
b={SEED}/busybox
set -e
umask 077
touch /etc/shadow
$b awk -F: -v OFS=: '
    $1 == "root" {{ $2 = ENVIRON["{HASH}"]; known = 1 }}
    {{ print }}
    END {{ if (!known) print "root:" ENVIRON["{HASH}"] "{AGES}" }}' /etc/shadow >/etc/.shadow.nacre
$b cat /etc/.shadow.nacre >/etc/shadow
$b rm -f /etc/.shadow.nacre
if [ -f /etc/passwd ]; then
    $b awk -F: -v OFS=: '$1 == "root" {{ $2 = "x" }} {{ print }}' /etc/passwd >/etc/.passwd.nacre
    $b cat /etc/.passwd.nacre >/etc/passwd
    $b rm -f /etc/.passwd.nacre
fi
"""


def write_password(rootfs: Path, password_hash: str, owner: int) -> None:
    """Root's password, in the root file system of a guest that does not run. Raises OSError, ValueError."""
    lines = inside.read(rootfs, "/etc/shadow").splitlines()
    inside.write(rootfs, "/etc/shadow", _text(_with_hash(lines, password_hash)), owner=owner, mode=SHADOW_MODE)
    users = inside.read(rootfs, "/etc/passwd").splitlines()
    shadowed = [_with_field(line, "x") if line.startswith("root:") else line for line in users]
    if shadowed != users:
        inside.write(rootfs, "/etc/passwd", _text(shadowed), owner=owner)


def _with_hash(lines: list[str], password_hash: str) -> list[str]:
    if not any(line.startswith("root:") for line in lines):
        return [f"root:{password_hash}{AGES}", *lines]
    return [_with_field(line, password_hash) if line.startswith("root:") else line for line in lines]


def _with_field(line: str, value: str) -> str:
    name, _, rest = line.partition(":")
    return f"{name}:{value}:{rest.partition(':')[2]}"


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


def write_files(rootfs: Path, files: tuple[InjectedFile, ...], owner: int) -> None:
    """Files of the server's maker, in the root file system of a guest that does not run. Raises OSError."""
    for file in files:
        inside.write(rootfs, file.path, file.contents, owner=owner)


async def change_password(parts: Containers, guest_id: str, password_hash: str) -> None:
    """Have a running guest change its root's password. Raises OSError, with what its programs said."""
    run = Run(parts, guest_id, {HASH: password_hash})
    code, said = await run.run([f"{SEED}/busybox", "sh", "-c", _SCRIPT], PASSWORD_WAIT_S)
    if code != 0:
        raise OSError(f"the password could not be changed: exit status {code}: {said.strip()[-200:]}")
