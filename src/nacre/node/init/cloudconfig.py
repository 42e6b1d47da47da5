"""user-data into scripts: a `#!` script as it is, and the common keys of cloud-config as a script that the node writes.

The keys are those of cloud-init's documentation ("Module reference"): hostname, fqdn, ssh_authorized_keys, users, write_files,
bootcmd, runcmd, packages, package_update, timezone, final_message, password/chpasswd are not (a password in a script is no
secret). A key that is not among them is named on the console, never passed over in silence.
"""

import base64
import binascii
import gzip
import shlex
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import yaml
from msgspec import Struct

SIZE_BYTES_MAX = 1 << 20
"""User-data after decompression; Nova's own limit is 64 KiB before."""


class Scripts(Struct):
    """Shell for busybox's sh: at every boot, once before the image's command, once beside it."""

    every_boot: list[str] = []
    set_up: list[str] = []
    late: list[str] = []


class BadUserData(Exception):
    """The user-data cannot be read; the text says why, for the guest's console."""


def quote(value: object) -> str:
    return shlex.quote(str(value))


def _is_list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadUserData(f"cloud-config: {key} must be a list")
    return value


def _command(entry: Any) -> str:
    """A string goes to the shell, a list is one command's words."""
    if isinstance(entry, list):
        return " ".join(quote(word) for word in entry)
    # A sub-shell, so that an `exit` or a `cd` ends with its own entry.
    return f"sh -c {quote(entry)}"


def authorize(user: str, home: str, keys: Iterable[str]) -> list[str]:
    """Add ssh keys to a user's authorized_keys, as that user's own file."""
    lines = [f"home={home}", 'mkdir -p "$home/.ssh" && chmod 700 "$home/.ssh"']
    lines += [f'echo {quote(key.strip())} >>"$home/.ssh/authorized_keys"' for key in keys]
    return [*lines, 'chmod 600 "$home/.ssh/authorized_keys"', f'chown -R {quote(user)} "$home/.ssh"']


def home_of(user: str) -> str:
    return f"$(awk -F: -v n={quote(user)} '$1 == n {{ print $6; exit }}' /etc/passwd)"


def _hostname(value: Any, scripts: Scripts) -> None:
    # The kernel's name is the node's to give; what programs read is the file.
    scripts.set_up.append(f"echo {quote(value)} >/etc/hostname")


def _keys(value: Any, scripts: Scripts) -> None:
    scripts.set_up += authorize("root", "/root", [str(key) for key in _is_list(value, "ssh_authorized_keys")])


def _user(entry: Any, scripts: Scripts) -> None:
    if entry == "default":
        return
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict) or not entry.get("name"):
        raise BadUserData("cloud-config: an entry of users has no name")
    name, shell = str(entry["name"]), str(entry.get("shell", "/bin/sh"))
    home = str(entry.get("homedir", f"/home/{name}"))
    lines = scripts.set_up
    is_there = "'$1 == n { found = 1 } END { exit !found }' /etc/passwd"
    lines.append(f"if ! awk -F: -v n={quote(name)} {is_there}; then")
    uid = (
        quote(entry["uid"])
        if "uid" in entry
        else "$(awk -F: '$3 >= 1000 && $3 < 60000 && $3 > m { m = $3 } END { print (m ? m + 1 : 1000) }' /etc/passwd)"
    )
    lines.append(f"uid={uid}")
    lines.append(f'echo {quote(name)}":x:$uid:$uid:"{quote(entry.get("gecos", ""))}":"{quote(home + ":" + shell)} >>/etc/passwd')
    lines.append(f'echo {quote(name)}":x:$uid:" >>/etc/group')
    lines.append(f'[ -f /etc/shadow ] && echo {quote(name)}":!:19000:0:99999:7:::" >>/etc/shadow')
    lines.append(f'mkdir -p {quote(home)} && chown "$uid:$uid" {quote(home)}')
    lines.append("fi")
    groups = entry.get("groups", [])
    for group in groups.split(",") if isinstance(groups, str) else groups:
        member = 'BEGIN { OFS = FS = ":" } $1 == g { $4 = ($4 ? $4 "," : "") n } { print }'
        awk = f"awk -v g={quote(str(group).strip())} -v n={quote(name)} {quote(member)}"
        lines.append(f"{awk} /etc/group >/etc/group.new && cat /etc/group.new >/etc/group; rm -f /etc/group.new")
    if entry.get("sudo"):
        rules = entry["sudo"] if isinstance(entry["sudo"], list) else [entry["sudo"]]
        lines.append("mkdir -p /etc/sudoers.d")
        lines += [f"echo {quote(f'{name} {rule}')} >>/etc/sudoers.d/90-cloud-init-users" for rule in rules if rule is not True]
    if entry.get("ssh_authorized_keys"):
        lines += authorize(
            name, home_of(name), [str(key) for key in _is_list(entry["ssh_authorized_keys"], "ssh_authorized_keys")]
        )


def _users(value: Any, scripts: Scripts) -> None:
    for entry in _is_list(value, "users"):
        _user(entry, scripts)


def _content(entry: dict[str, Any]) -> bytes:
    content = entry.get("content", "")
    encoding = str(entry.get("encoding", "text/plain"))
    data = content if isinstance(content, bytes) else str(content).encode()
    try:
        if encoding in ("b64", "base64", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64"):
            data = base64.b64decode(data)
        if encoding.startswith("gz"):
            data = _gunzip(data)
    except (binascii.Error, OSError, EOFError, zlib.error) as error:
        raise BadUserData(f"cloud-config: write_files {entry.get('path')}: {error}") from error
    return data


def _write_files(value: Any, scripts: Scripts) -> None:
    for entry in _is_list(value, "write_files"):
        if not isinstance(entry, dict) or not entry.get("path"):
            raise BadUserData("cloud-config: an entry of write_files has no path")
        path = quote(entry["path"])
        arrow = ">>" if entry.get("append") else ">"
        lines = [f'mkdir -p "$(dirname {path})"']
        lines.append(f"base64 -d {arrow}{path} <<'END'\n{base64.encodebytes(_content(entry)).decode()}END")
        mode = entry.get("permissions", "0644")
        lines.append(f"chmod {quote(f'{mode:04o}' if isinstance(mode, int) else mode)} {path}")
        if entry.get("owner"):
            lines.append(f"chown {quote(entry['owner'])} {path}")
        target = scripts.late if entry.get("defer") else scripts.set_up
        target += lines


def _bootcmd(value: Any, scripts: Scripts) -> None:
    scripts.every_boot += [_command(entry) for entry in _is_list(value, "bootcmd")]


def _runcmd(value: Any, scripts: Scripts) -> None:
    scripts.late += [f"{_command(entry)} || status=$?" for entry in _is_list(value, "runcmd")]


_MANAGERS = (
    ("apt-get", "apt-get -q update", "DEBIAN_FRONTEND=noninteractive apt-get -q -y install"),
    ("dnf", "true", "dnf -q -y install"),
    ("apk", "apk update", "apk add"),
    ("zypper", "zypper -n refresh", "zypper -n install"),
)


def _packages(value: Any, scripts: Scripts) -> None:
    names = [("=".join(map(str, name)) if isinstance(name, list) else str(name)) for name in _is_list(value, "packages")]
    wanted = " ".join(quote(name) for name in names)
    branches = [f"if command -v {tool} >/dev/null; then {fresh} && {add} {wanted} || status=$?" for tool, fresh, add in _MANAGERS]
    chain = "\nel".join(branches)
    scripts.late.append(f"{chain}\nelse echo 'nacre-init: no package manager here: packages not installed'; status=1; fi")


def _package_update(value: Any, scripts: Scripts) -> None:
    if value:
        branches = [f"if command -v {tool} >/dev/null; then {fresh} || status=$?" for tool, fresh, _ in _MANAGERS]
        scripts.late.append("\nel".join(branches) + "\nfi")


def _timezone(value: Any, scripts: Scripts) -> None:
    scripts.set_up.append(f"echo {quote(value)} >/etc/timezone; ln -sf /usr/share/zoneinfo/{quote(value)} /etc/localtime")


def _final_message(value: Any, scripts: Scripts) -> None:
    scripts.late.append(f"echo {quote(value)}")


# In the order in which cloud-init's modules run.
_KEYS: dict[str, Callable[[Any, Scripts], None]] = {
    "bootcmd": _bootcmd,
    "hostname": _hostname,
    "fqdn": _hostname,
    "users": _users,
    "ssh_authorized_keys": _keys,
    "write_files": _write_files,
    "timezone": _timezone,
    "package_update": _package_update,
    "packages": _packages,
    "runcmd": _runcmd,
    "final_message": _final_message,
}


def _gunzip(data: bytes) -> bytes:
    plain = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(data, SIZE_BYTES_MAX + 1)
    if len(plain) > SIZE_BYTES_MAX:
        raise BadUserData(f"the user-data is larger than {SIZE_BYTES_MAX} bytes when decompressed")
    return plain


def read(user_data: bytes) -> Scripts:
    """The scripts that the user-data stands for. Raises BadUserData."""
    if user_data.startswith(b"\x1f\x8b"):
        try:
            user_data = _gunzip(user_data)
        except (zlib.error, gzip.BadGzipFile) as error:
            raise BadUserData(f"the user-data is not whole gzip: {error}") from error
    if not user_data.strip() or user_data.startswith(b"#!"):
        return Scripts()
    if not user_data.startswith(b"#cloud-config"):
        first = user_data.split(b"\n", 1)[0][:60].decode(errors="replace")
        raise BadUserData(f"the user-data begins with {first!r}: only '#!' and '#cloud-config' are known here")
    try:
        document = yaml.safe_load(user_data) or {}
    except yaml.YAMLError as error:
        raise BadUserData(f"cloud-config: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise BadUserData("cloud-config: not a mapping")
    scripts = Scripts()
    for key in (key for key in document if key not in _KEYS):
        scripts.late.append(f"echo 'nacre-init: cloud-config key '{quote(key)}' is not known here'")
    for key, apply in _KEYS.items():
        if document.get(key) is not None:
            apply(document[key], scripts)
    return scripts
