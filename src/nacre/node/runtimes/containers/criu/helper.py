"""Checkpoints a guest, or restores one: a process of its own that outlives the node, so that neither is cut off in the middle.

    helper.py --root=CRUN-ROOT dump REQUEST GUEST        what runs of the guest ends, its images lie in a folder
    helper.py --root=CRUN-ROOT create ... GUEST          as conmon calls a runtime: the guest goes on from its images

A request is JSON (see `freezing` and `thawing`). conmon believes that a container is made. It is: crun makes one with its cgroups and its
own notes, whose first process has not begun anything, and CRIU's takes its place. Standard library only.
"""

import contextlib
import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import swrk  # type: ignore[import-not-found]  # Beside this file: it runs as a script, apart from the package.

CLONE_NEWCGROUP = 0x02000000
LOG_LEVEL = 2
GHOST_BYTES_MAX = 1 << 30
"""Files that are deleted and still open go along up to this size."""
GATE_WAIT_S = 60.0
"""How long the node may take to bring a guest's ports."""
END_WAIT_S = 10.0
_COMMON: dict[str, Any] = {
    "log_level": LOG_LEVEL,
    "tcp_established": True,
    "file_locks": True,
    "link_remap": True,
    "ghost_limit": GHOST_BYTES_MAX,
    # The node makes cgroups and network anew.
    "manage_cgroups": True,
    "manage_cgroups_mode": swrk.IGNORE_CGROUPS,
    "empty_ns": swrk.CLONE_NEWNET,
    "network_lock": swrk.LOCK_BY_NFTABLES,
    "orphan_pts_master": True,
}


_TUN = {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"}
"""CRIU tries it out as it begins, in the guest's cgroups. The guest has no node of it and, in its user namespace, can make none."""


class Trouble(Exception):
    """Why it did not work."""


def dump(request: dict[str, Any]) -> None:
    """`request`: criu, images, pid, external, freezer. The outcome is a file there: `dumped`, or `failed` with the cause."""
    images = Path(request["images"])
    values = {**_COMMON, "pid": request["pid"], "external": request["external"], "log_file": "dump.log"}
    if request["freezer"]:
        values["freeze_cgroup"] = request["freezer"]
    try:
        _criu(request["criu"], swrk.DUMP, images, values, lambda what, pid, fds: None)
    except Trouble as error:
        (images / "failed").write_text(str(error))
        raise
    (images / "dumped").touch()


def _criu(
    criu: str, kind: int, images: Path, values: dict[str, Any], notified: Any, before: Any = lambda: None
) -> dict[int, Any]:
    """Raises Trouble with CRIU's own cause."""
    folder = os.open(images, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        answer: dict[int, Any] = swrk.call(criu, kind, {**values, "images_dir_fd": folder}, notified, before, [folder])
    except swrk.CriuError as error:
        raise Trouble(f"{error}{_cause(images / values['log_file'])}") from error
    finally:
        os.close(folder)
    if not answer.get(2, [0])[0]:
        raise Trouble(f"criu could not{_cause(images / values['log_file'])}")
    return answer


def _cause(log: Path) -> str:
    """The first error of CRIU's log that says more than that it failed."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    errors = [line.partition("Error ")[2] for line in lines if "Error (" in line]
    telling = [line.partition("): ")[2] for line in errors if "RLIMIT_NOFILE" not in line]
    return f": {telling[0]}" if telling else ""


class Restorer:
    """`request`: criu, crun, images, root, external, cgroups, gate."""

    def __init__(self, root: str, guest_id: str, given: dict[str, str]) -> None:
        self._bundle, self._pid_file = Path(given["--bundle"]), Path(given["--pid-file"])
        self._console = given.get("--console-socket", "")
        self._request: dict[str, Any] = json.loads((self._bundle / "thaw.json").read_bytes())
        self._root, self._guest_id = root, guest_id
        self._pid = 0

    def run(self) -> None:
        """Raises Trouble, OSError."""
        self._make_still()
        request = self._request
        values = {**_COMMON, "root": request["root"], "external": request["external"], "log_file": "restore.log"}
        values["notify_scripts"] = True
        _criu(request["criu"], swrk.RESTORE, Path(request["images"]), values, self._notified, self._enter)

    def _make_still(self) -> None:
        """A container of crun's whose first process waits, and is ended again: its cgroups and crun's notes stay."""
        still = self._bundle / "still"
        still.mkdir(exist_ok=True)
        document = json.loads((self._bundle / "config.json").read_bytes())
        document["process"]["terminal"] = False
        if document["linux"]["resources"].get("devices"):
            document["linux"]["resources"]["devices"].append(_TUN)
        (still / "config.json").write_text(json.dumps(document))
        argv = [
            self._request["crun"],
            self._root,
            "create",
            "--bundle",
            str(still),
            "--pid-file",
            str(still / "pid"),
            self._guest_id,
        ]
        errors = still / "crun.err"
        with errors.open("wb") as file:  # No pipe: the process that waits would hold it.
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file, check=False)
        if done.returncode:
            raise Trouble(errors.read_text(errors="replace").strip() or "crun create failed")
        pid = int((still / "pid").read_text())
        fd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
        self._await_end(pid)

    def _await_end(self, pid: int) -> None:
        deadline = time.monotonic() + END_WAIT_S
        while time.monotonic() < deadline:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except OSError:
                return
            time.sleep(0.001)
        raise Trouble("the process that waited does not end")

    def _enter(self) -> None:
        """In CRIU's process: what it makes is born in the guest's cgroups, and sees them as the root of all."""
        for folder in filter(os.path.isdir, self._request["cgroups"]):
            # Version 1 takes one thread by `tasks`; by the other file it costs a grace period of the kernel.
            tasks = f"{folder}/tasks"
            with open(tasks if os.path.exists(tasks) else f"{folder}/cgroup.procs", "w") as file:
                file.write("0")
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWCGROUP):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWCGROUP)")

    def _notified(self, what: str, pid: int, fds: list[int]) -> None:
        match what:
            case "setup-namespaces":
                self._pid = pid
                self._pass_gate(pid)
            case "orphan-pts-master" if self._console and fds:
                with socket.socket(socket.AF_UNIX) as way:
                    way.connect(self._console)
                    socket.send_fds(way, [b"/dev/ptmx"], fds[:1])
            case "pre-resume":
                self._note()
        for fd in fds:
            os.close(fd)

    def _pass_gate(self, pid: int) -> None:
        """The namespaces are there and empty: the node pins them and brings the ports. Raises Trouble."""
        with socket.socket(socket.AF_UNIX) as way:
            way.settimeout(GATE_WAIT_S)
            way.connect(self._request["gate"])
            way.sendall(f"{pid}\n".encode())
            answer = b""
            while not answer.endswith(b"\n") and (more := way.recv(4096)):
                answer += more
        if answer != b"go\n":
            raise Trouble(answer.decode(errors="replace").strip() or "the node has gone")

    def _note(self) -> None:
        """Nothing runs yet. From here on the guest is this process, for crun as for conmon and the node."""
        status = Path(self._root.partition("=")[2]) / self._guest_id / "status"
        known = json.loads(status.read_bytes())
        started = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[19]
        known |= {"pid": self._pid, "process-start-time": int(started), "bundle": str(self._bundle)}
        _write_whole(status, json.dumps(known))
        (status.parent / "exec.fifo").unlink(missing_ok=True)
        _write_whole(self._pid_file, str(self._pid))


def _write_whole(path: Path, text: str) -> None:
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(text)
    os.replace(scratch, path)


def main() -> None:
    os.umask(0o022)
    root, command, *rest = sys.argv[1:]
    try:
        if command == "dump":
            dump(json.loads(Path(rest[0]).read_bytes()))
        elif command == "create":
            given = {name: value for name, value in itertools.pairwise(rest) if name.startswith("--")}
            Restorer(root, rest[-1], given).run()
        else:
            raise Trouble(f"this is no runtime for {command}")
    except (Trouble, swrk.CriuError, OSError, ValueError, LookupError) as error:
        with contextlib.suppress(OSError):
            os.write(2, f"{error}\n".encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
