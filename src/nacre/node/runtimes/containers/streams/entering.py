"""How a process gets into a running guest: cgroups, namespaces, terminal, user, capabilities, seccomp, and then its own program.

Runs in the spawner's children only: standard library, no import after the guest's root is ours. The guest is hostile. Every descriptor
but the standard three and the way to report is closed before the guest's folders are entered, the process cannot be dumped or traced by
the guest until it has become the guest's own program, and what is read of the guest's files is bounded.
"""

import base64
import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import stat
import struct
import termios
from typing import Any

TABLE_BYTES_MAX = 1 << 20
"""How much of a guest's passwd or group file is read."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLONE_NEWUSER = 0x10000000
_NAMESPACES = (
    ("user", _CLONE_NEWUSER),
    ("mnt", 0x00020000),
    ("pid", 0x20000000),
    ("net", 0x40000000),
    ("ipc", 0x08000000),
    ("uts", 0x04000000),
    ("cgroup", 0x02000000),
)
_CLONE_PARENT = 0x00008000
_SYS_CLONE, _SYS_KEYCTL = {"x86_64": (56, 250), "aarch64": (220, 219)}.get(platform.machine(), (-1, -1))
_JOIN_SESSION_KEYRING = 1
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 8, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION = 0x20080522
_DEVPTS_MAGIC = 0x1CD1
_TIOCGPTPEER, _TIOCSPTLCK = 0x5441, 0x40045431
CAPABILITY_MAX = 63
FILES_MAX = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The process cannot be started; `code` is what a shell would exit with (126, 127) or 0 for a request that makes no sense."""

    def __init__(self, message: str, code: int = 126) -> None:
        super().__init__(message)
        self.code = code


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, value: int, more: Any = 0) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), more, 0, 0), f"prctl {option}")


def join_cgroups(folders: list[str]) -> None:
    """Move this process into the guest's cgroups. Raises OSError.

    It has one thread. Version 1 takes that alone by `tasks`, where a whole process by `cgroup.procs` costs a grace period of the kernel
    (8 ms): all of the machine's forks and exits are kept waiting for it.
    """
    for folder in folders:
        tasks = f"{folder}/tasks"
        with open(tasks if os.path.exists(tasks) else f"{folder}/cgroup.procs", "w") as file:
            file.write("0")


def join_namespaces(pidfd: int, pid: int) -> None:
    """Enter the namespaces of the guest's first process that differ from ours, as its root."""
    wanted = 0
    for name, flag in _NAMESPACES:
        theirs, ours = os.stat(f"/proc/{pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            wanted |= flag
    # What was compared belongs to the process that the descriptor holds: the number was not given away meanwhile.
    signal.pidfd_send_signal(pidfd, 0)
    _prctl(_PR_SET_DUMPABLE, 0)
    # A session keyring of its own: the node's must not be possessed by a guest. A kernel without keys is fine.
    _libc.syscall(_SYS_KEYCTL, _JOIN_SESSION_KEYRING, None)
    _check(_libc.setns(pidfd, wanted), "setns")
    if wanted & _CLONE_NEWUSER:
        _become_root()


def join_user_namespace(namespace: int) -> None:
    """Become root in the user namespace, which has rights in no other."""
    _prctl(_PR_SET_DUMPABLE, 0)
    _libc.syscall(_SYS_KEYCTL, _JOIN_SESSION_KEYRING, None)
    _check(_libc.setns(namespace, _CLONE_NEWUSER), "setns")
    _become_root()


def _become_root() -> None:
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _prctl(_PR_SET_DUMPABLE, 0)


def fork_into() -> int:
    """Fork so that the child is in the namespaces that were joined, and a child of this process's parent."""
    if _SYS_CLONE < 0:
        raise OSError(errno.ENOSYS, "exec is not known on this machine's architecture")
    return _check(_libc.syscall(_SYS_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0), "clone")


def become(request: dict[str, Any], channel: int) -> None:
    """In the guest's namespaces: become the program that the request asks for. Never returns; raises OSError or Refused."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    terminal = _open_terminal(request, channel) if request["tty"] else None
    close_all_but({channel, *(() if terminal is None else (terminal,))})
    user = _user(request)
    if terminal is not None:
        _take_terminal(terminal, user["uid"])
    for name, soft, hard in request["rlimits"]:
        resource.setrlimit(getattr(resource, name), (soft, hard))
    environment = _environment(request, user)
    _set_user(request, user)
    _enter_folder(request["cwd"])
    _restrict(request)
    _execute(request["argv"], environment)


def close_all_but(kept: set[int]) -> None:
    low = 3
    for fd in (*sorted(kept), FILES_MAX):
        os.closerange(low, fd)
        low = fd + 1


def _open_terminal(request: dict[str, Any], channel: int) -> int:
    """A terminal of the guest's own devpts; its master goes to the spawner. The other end, as a descriptor that no name led to."""
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW)
    buffer = ctypes.create_string_buffer(256)
    _check(_libc.fstatfs(master, buffer), "fstatfs")
    if struct.unpack_from("l", buffer)[0] != _DEVPTS_MAGIC or not stat.S_ISCHR(os.fstat(master).st_mode):
        raise Refused("the guest's /dev/pts is no devpts")
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    terminal = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    if request["h"] and request["w"]:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", request["h"], request["w"], 0, 0))
    with socket.socket(fileno=os.dup(channel)) as way:
        socket.send_fds(way, [b"terminal"], [master])
    os.close(master)
    return terminal


def _take_terminal(terminal: int, uid: int) -> None:
    os.fchown(terminal, uid, -1)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(terminal, number)
    os.close(terminal)


def _table(path: str) -> list[list[str]]:
    """The lines of a file like /etc/passwd, which the guest may have made anything of."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = os.read(fd, TABLE_BYTES_MAX) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    return [line.split(":") for line in data.decode("utf-8", "replace").splitlines() if ":" in line]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < 1 << 32 else None


def _user(request: dict[str, Any]) -> dict[str, Any]:
    """uid, gid, groups and home. `user` is name-or-number[:group], as Docker takes it; without it the ids of the request count."""
    people = _table("/etc/passwd")
    name, _, group = request["user"].partition(":")
    uid, gid, groups = request["uid"], request["gid"], list(request["groups"])
    row: list[str] = []
    if name:
        number = _number(name)
        row = next((line for line in people if line[0] == name), []) or next(
            (line for line in people if len(line) > 3 and number is not None and line[2] == name), []
        )
        if not row and number is None:
            raise Refused(f"unable to find user {name}: no matching entries in passwd file", 0)
        uid = number if not row else int(_number(row[2]) or 0)
        gid, groups = (_number(row[3]) or 0) if len(row) > 3 else 0, []
    else:
        row = next((line for line in people if len(line) > 3 and line[2] == str(uid)), [])
    home = row[5] if len(row) > 5 and row[5] else "/"
    if group:
        gid = _group(group)
    elif name and row:
        groups = [_number(line[2]) or 0 for line in _table("/etc/group") if len(line) > 3 and row[0] in line[3].split(",")]
    return {"uid": uid, "gid": gid, "groups": [gid, *groups] if name else groups, "home": home}


def _group(text: str) -> int:
    for line in _table("/etc/group"):
        if len(line) > 2 and line[0] == text and _number(line[2]) is not None:
            return int(line[2])
    number = _number(text)
    if number is None:
        raise Refused(f"unable to find group {text}: no matching entries in group file", 0)
    return number


def _environment(request: dict[str, Any], user: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in request["env"]:
        name, equals, value = line.partition("=")
        if name and equals:
            found[name] = value
        else:
            found.pop(name, None)
    found.setdefault("PATH", DEFAULT_PATH)
    if request["tty"]:
        found.setdefault("TERM", "xterm")
    if request["user"] or not found.get("HOME"):
        found["HOME"] = user["home"]
    return found


def _set_user(request: dict[str, Any], user: dict[str, Any]) -> None:
    kept = set(request["bounding"])
    for number in range(CAPABILITY_MAX + 1):
        if number not in kept and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break  # The last one that this kernel knows.
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups(user["groups"])
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])


def _enter_folder(path: str) -> None:
    try:
        os.chdir(path)
        inside = os.getcwd()
    except OSError as error:
        raise Refused(f'chdir to cwd ("{path}") set in config.json failed: {_reason(error)}', _code(error)) from None
    if not inside.startswith("/"):
        raise Refused("current working directory is outside of container mount namespace root")


def _restrict(request: dict[str, Any]) -> None:
    """Seccomp while it may still be set, then the capabilities that are left to the program."""
    _prctl(_PR_SET_DUMPABLE, 0)  # Another user meant another mark.
    if request["no_new_privileges"]:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header, data = struct.pack("Ii", _CAPABILITY_VERSION, 0), ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data), "capget")
    _, low, _, _, high, _ = struct.unpack("6I", data.raw)
    _check(_libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0)), "capset")
    program = base64.b64decode(request["seccomp"])
    if program:
        code = ctypes.create_string_buffer(program, len(program))
        filters = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(filters))
    mask = sum(1 << number for number in request["bounding"])
    low, high = low & mask, high & mask >> 32
    _check(_libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0)), "capset")


def _execute(argv: list[str], environment: dict[str, str]) -> None:
    name = argv[0]
    folders = environment["PATH"].split(":")
    candidates = [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in folders]
    worst: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, argv, environment)  # noqa: S606 - that is what it is for
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error
                if error.errno != errno.EACCES:
                    break
            elif "/" in name:
                worst = error
        except ValueError as error:
            raise Refused(f"exec: {json.dumps(name)}: {error}", 126) from None
    if worst is None:
        raise Refused(f"exec: {json.dumps(name)}: executable file not found in $PATH", 127)
    if "/" in name and worst.errno in (errno.ENOENT, errno.ENOTDIR):
        raise Refused(f"exec: {json.dumps(name)}: stat {name}: {_reason(worst)}", 127)
    raise Refused(f"exec: {json.dumps(name)}: {_reason(worst)}", 126)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _code(error: OSError) -> int:
    return 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
