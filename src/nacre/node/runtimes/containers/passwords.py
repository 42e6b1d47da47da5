"""A running guest's new password: the guest changes it itself, by a program of ours that is started in it."""

from nacre.node.runtimes.containers.bundle import SEED
from nacre.node.runtimes.containers.container import Containers
from nacre.node.runtimes.containers.health import Run
from nacre.node.runtimes.containers.injecting import AGES

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


async def change(parts: Containers, guest_id: str, password_hash: str) -> None:
    """Have a running guest change its root's password. Raises OSError, with what its programs said."""
    paths = parts.layout.guest(guest_id)
    run = Run(parts, guest_id, (paths.password_process, paths.password_pid_file), {HASH: password_hash})
    code, said = await run.run([f"{SEED}/busybox", "sh", "-c", _SCRIPT], PASSWORD_WAIT_S)
    if code != 0:
        raise OSError(f"the password could not be changed: exit status {code}: {said.strip()[-200:]}")
