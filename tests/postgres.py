"""PostgreSQL for tests: a cluster of its own from Debian's package, in a temporary directory, on a port of loopback, with a password."""

import atexit
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

PASSWORD = "tests-only"
PREFIX = "nacre-postgres-"
START_S = 60
SETTINGS = {
    # What a kill of the server must not lose is in the kernel's hands already; what a power cut would lose is not this tests' matter.
    "fsync": "off",
    "max_connections": "400",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
}


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "the Debian package postgresql is missing: `./nacre test` installs it"
    return found[-1].parent


def _connect(url: str) -> Any:
    import psycopg

    return psycopg.connect(url, autocommit=True)


def _sweep(programs: Path) -> None:
    """End the clusters whose test run was killed: a server is nobody's child."""
    for maker in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/maker"):
        with contextlib.suppress(OSError, ValueError):
            if not Path(f"/proc/{int(maker.read_text())}").exists():
                _remove(programs, maker.parent)


def _remove(programs: Path, directory: Path) -> None:
    owner = directory.stat().st_uid
    command = [str(programs / "pg_ctl"), "-D", str(directory / "data"), "-m", "immediate", "stop"]
    who: dict[str, Any] = {"user": owner, "extra_groups": []} if os.getuid() == 0 and owner else {}
    subprocess.run(command, capture_output=True, check=False, cwd="/", **who)
    shutil.rmtree(directory, ignore_errors=True)


class Cluster:
    """One server. `stop` and `start` again keep what is in it."""

    def __init__(self, primary: "Cluster | None" = None, **settings: str) -> None:
        """`primary`: be its standby, which has each transaction before that one answers."""
        self._programs = _programs()
        _sweep(self._programs)
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        (self.directory / "maker").write_text(str(os.getpid()))
        self._data = self.directory / "data"
        self._as: dict[str, Any] = {"cwd": "/"}
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            self._as |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        if primary is None:
            word = self.directory / "password"
            word.write_text(PASSWORD)
            word.chmod(0o644)
            words = ("--no-sync", "--locale=C", "--encoding=UTF8", "--username=nacre", "--auth=scram-sha-256", f"--pwfile={word}")
            self._call("initdb", *words)
        else:
            self._call("pg_basebackup", "--no-sync", "--write-recovery-conf", f"--dbname={primary.url('postgres')}")
        lines = [f"{name} = '{value}'" for name, value in {**SETTINGS, "port": str(self.port), **settings}.items()]
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")
        self.start()
        atexit.register(self.close)
        if primary is not None:
            primary.wait_for_standby()

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self._as)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        log = self.directory / "log"
        self._call("pg_ctl", "--wait", f"--timeout={START_S}", f"--log={log}", "start")

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is as if it had crashed."""
        self._call("pg_ctl", "--wait", f"--timeout={START_S}", f"--mode={mode}", "stop")

    def wait_for_standby(self) -> None:
        """From here on every commit waits for the standby."""
        with _connect(self.url("postgres")) as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            conn.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        self._call("pg_ctl", "--wait", f"--timeout={START_S}", "promote")

    def kill_backends(self) -> None:
        """Every connection to it is lost, and may be made again at once."""
        with _connect(self.url("postgres")) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname <> 'postgres'"
            )

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"nacre_{uuid.uuid4().hex[:12]}"
        with _connect(self.url("postgres")) as conn:
            conn.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql://nacre:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        atexit.unregister(self.close)
        _remove(self._programs, self.directory)


_shared: list[Cluster] = []
_lock = threading.Lock()


def shared() -> Cluster:
    """The cluster of this test run, made when the first test asks for it."""
    with _lock:
        if not _shared:
            _shared.append(Cluster())
        return _shared[0]


def store_url(path: Path) -> str:
    """Where a test's store is: the SQLite file, or a new database when NACRE_TEST_STORE says `postgresql`."""
    return shared().database() if on_postgresql() else f"sqlite:///{path}"


def on_postgresql() -> bool:
    return os.environ.get("NACRE_TEST_STORE") == "postgresql"


if __name__ == "__main__":
    # A command, with an empty database of its own in NACRE_STORE.
    cluster = Cluster()
    try:
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, "NACRE_STORE": cluster.database()}, check=False).returncode)
    finally:
        cluster.close()
