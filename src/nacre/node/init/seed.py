"""Writes a guest's seed: the folder that the guest sees, read-only, at /.nacre."""

import os
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from nacre.node.init import cloudconfig
from nacre.protocol.guests import InstanceData

_TOOLS = "PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\nstatus=0\n"
# The image may lack what the scripts use: busybox's own applets stand in, behind the image's programs.
_APPLETS = "awk base64 cat chmod chown dirname ln mkdir rm sh"


def _script(lines: list[str]) -> str:
    stand_ins = "".join(
        f'command -v {name} >/dev/null || {name}() {{ /.nacre/busybox {name} "$@"; }}\n' for name in _APPLETS.split()
    )
    return _TOOLS + stand_ins + "\n".join(lines) + "\nexit $status\n"


def _contents(instance: InstanceData, default_user: str) -> Mapping[str, tuple[str | bytes, int]]:
    found: dict[str, tuple[str | bytes, int]] = {
        "init": (files("nacre.node.init").joinpath("init.sh").read_text(), 0o755),
        "run-user-data": (files("nacre.node.init").joinpath("user-data.sh").read_text(), 0o755),
        "exec": (files("nacre.node.init").joinpath("exec.sh").read_text(), 0o755),
        "instance.json": (msgspec.json.encode(_public(instance)), 0o644),
    }
    try:
        scripts = cloudconfig.read(instance.user_data)
    except cloudconfig.BadUserData as error:
        scripts = cloudconfig.Scripts(late=[f"echo 'nacre-init: '{cloudconfig.quote(error)}", "status=1"])
    keys = [key for key in instance.public_keys.values() if key.strip()]
    if keys:
        lines = cloudconfig.authorize("root", "/root", keys)
        if default_user not in ("", "root") and not default_user[0].isdigit():
            lines += cloudconfig.authorize(default_user, cloudconfig.home_of(default_user), keys)
        scripts.set_up = lines + scripts.set_up
    if scripts.every_boot:
        found["every-boot"] = (_script(scripts.every_boot), 0o700)
    if scripts.set_up:
        found["set-up"] = (_script(scripts.set_up), 0o700)
    if instance.user_data.startswith(b"#!"):
        found["script"] = (instance.user_data, 0o700)
        found["user-data"] = (_RUN_SCRIPT, 0o700)
    elif scripts.late:
        found["user-data"] = (_script(scripts.late), 0o700)
    return found


# The image may lack the interpreter that the first line names: busybox's shell stands in for a shell.
_RUN_SCRIPT = """\
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
read -r first </.nacre/script
interpreter=${first#\\#!}
interpreter=${interpreter# }
interpreter=${interpreter%% *}
if [ -x "$interpreter" ]; then exec /.nacre/script; fi
case $interpreter in
*/sh | */bash | */ash | */dash) exec /.nacre/busybox sh /.nacre/script ;;
esac
echo "nacre-init: the image has no $interpreter"
exit 127
"""


def _public(instance: InstanceData) -> dict[str, object]:
    return {
        "name": instance.name,
        "hostname": instance.hostname,
        "project_id": instance.project_id,
        "availability_zone": instance.availability_zone,
        "launch_index": instance.launch_index,
        "public_keys": instance.public_keys,
        "meta": instance.meta,
        "instance_type": instance.instance_type,
    }


def write_tree(folder: Path, tree: Mapping[str, Any], base_id: int) -> None:
    """Folders and files, readable by all of the guest; what lay there before is replaced. Raises OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    _write_tree(folder, tree, base_id)


def _write_tree(folder: Path, tree: Mapping[str, Any], base_id: int) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    os.chown(folder, base_id, base_id)
    for name, content in tree.items():
        if isinstance(content, bytes):
            file = folder / name
            file.write_bytes(content)
            file.chmod(0o644)
            os.chown(file, base_id, base_id)
        else:
            _write_tree(folder / name, content, base_id)


def write_seed(folder: Path, busybox: Path, instance: InstanceData, default_user: str, base_id: int) -> None:
    """Fill the folder, as the guest's root's own. What an earlier boot wrote is replaced. Raises OSError."""
    for old in folder.iterdir():
        old.unlink()
    os.chown(folder, base_id, base_id)
    folder.chmod(0o755)
    # A hard link: the bytes are there once for all guests. They stay the host's root's, and are not writable by any guest.
    os.link(busybox, folder / "busybox")
    for name, (content, mode) in _contents(instance, default_user).items():
        file = folder / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(mode)
        os.chown(file, base_id, base_id)
