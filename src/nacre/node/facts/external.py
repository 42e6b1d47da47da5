"""Facts from folders, as Facter's external facts: .txt (NAME=value lines), .yaml, .json, and programs that print any of these.

What decides where guests run must come from whoever rules the host: folder and file belong to root (or to the user that the node runs as)
and nobody else may write them; anything else is refused with a line in the log. Programs run as an ordinary user.
"""

import asyncio
import logging
import math
import os
import pwd
import signal
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

FILES_MAX = 64
"""In one folder."""
FILE_BYTES_MAX = 64 * 1024
"""Of a file, and of what a program prints."""
FACTS_MAX = 512
TEXT_CHARACTERS_MAX = 4096
DEPTH_MAX = 8
PROGRAM_TIMEOUT_S = 5.0
PROGRAMS_EVERY_S = 15.0
USER = "nobody"

log = logging.getLogger("nacre.node.facts")


class ExternalFacts:
    """The facts of some folders, a later one's before an earlier one's, and in each the last file's by name."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._read: dict[Path, tuple[tuple[int, ...], dict[str, Any]]] = {}
        """File -> what it looked like when it was read, and its facts."""
        self._printed: dict[Path, dict[str, Any]] = {}
        self._refused: dict[Path, str] = {}

    def read(self) -> dict[str, Any]:
        """The facts of all files; programs' are those of their last run."""
        found: dict[str, Any] = {}
        for path, seen in self._files():
            if seen.st_mode & 0o111:
                found |= self._printed.get(path, {})
            else:
                found |= self._facts_of(path, seen)
        return dict(list(found.items())[:FACTS_MAX])

    async def run_programs(self) -> None:
        """Run each program once, one after the other."""
        programs = [path for path, seen in await asyncio.to_thread(self._files) if seen.st_mode & 0o111]
        self._printed = {path: facts for path, facts in self._printed.items() if path in programs}
        for path in programs:
            try:
                self._printed[path] = parse(await _output(path), "")
                self._refused.pop(path, None)
            except (OSError, ValueError) as error:
                self._printed.pop(path, None)
                self._refuse(path, str(error))

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for folder in self._folders:
            try:
                _require_trusted(os.stat(folder))
                names = sorted(os.listdir(folder))[:FILES_MAX]
            except FileNotFoundError:
                continue
            except OSError as error:
                self._refuse(folder, str(error))
                continue
            for name in names:
                path = folder / name
                try:
                    seen = os.lstat(path)
                    if stat.S_ISREG(seen.st_mode) and not name.startswith("."):
                        _require_trusted(seen)
                        found.append((path, seen))
                except OSError as error:
                    self._refuse(path, str(error))
        return found

    def _facts_of(self, path: Path, seen: os.stat_result) -> dict[str, Any]:
        looks = (seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size)
        known = self._read.get(path)
        if known is None or known[0] != looks:
            try:
                with path.open("rb") as file:
                    facts = parse(file.read(FILE_BYTES_MAX + 1), path.suffix)
                self._refused.pop(path, None)
            except (OSError, ValueError) as error:
                facts = {}
                self._refuse(path, str(error))
            known = self._read[path] = (looks, facts)
        return known[1]

    def _refuse(self, path: Path, why: str) -> None:
        """Say it once."""
        if self._refused.get(path) != why:
            self._refused[path] = why
            log.warning("no facts are taken from %s: %s", path, why)


def _require_trusted(seen: os.stat_result) -> None:
    if seen.st_uid not in (0, os.geteuid()):
        raise PermissionError("it does not belong to root")
    if seen.st_mode & 0o022:
        raise PermissionError("others than its owner may write to it")


async def _output(path: Path) -> bytes:
    """What a program prints. Raises OSError when it fails, takes too long or prints too much; nothing that it started stays."""
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam(USER)
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    process = await asyncio.create_subprocess_exec(
        str(path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        start_new_session=True,
        **options,
    )
    try:
        async with asyncio.timeout(PROGRAM_TIMEOUT_S):
            assert process.stdout is not None
            printed = bytearray()
            while len(printed) <= FILE_BYTES_MAX and (chunk := await process.stdout.read(FILE_BYTES_MAX)):
                printed += chunk
            if len(printed) <= FILE_BYTES_MAX and await process.wait() != 0:
                raise OSError(f"it ended with status {process.returncode}")
    except TimeoutError:
        raise OSError(f"it did not end within {PROGRAM_TIMEOUT_S:.0f} s") from None
    finally:
        _end(process)
        await process.wait()
    return bytes(printed)


def _end(process: asyncio.subprocess.Process) -> None:
    """The program and all of its session's group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def parse(data: bytes, ending: str) -> dict[str, Any]:
    """The facts of a file by its ending, or of a program's output (no ending) by its looks. Raises ValueError."""
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"it is longer than {FILE_BYTES_MAX} bytes")
    text = data.decode("utf-8")
    try:
        match ending or _looks_like(text):
            case ".txt":
                return {name: value for name, value in _lines(text) if name}
            case ".json":
                found = msgspec.json.decode(text)
            case ".yaml" | ".yml":
                found = yaml.safe_load(text) or {}
            case _:
                raise ValueError("its name ends with none of .txt, .yaml and .json, and it is not executable")
    except (msgspec.DecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it cannot be read: {error}") from None
    if not isinstance(found, Mapping):
        raise ValueError("it holds no names with values")
    return {str(name): value for name, given in found.items() if (value := _plain(given)) is not None}


def _looks_like(text: str) -> str:
    if text.lstrip().startswith("{"):
        return ".json"
    return ".txt" if "=" in text.partition("\n")[0] else ".yaml"


def _lines(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return [(name.strip(), value.strip()[:TEXT_CHARACTERS_MAX]) for name, _, value in pairs]


def _plain(value: Any, depth: int = 0) -> Any:
    """A value that can be sent and compared: texts are cut, what is nested too deeply or is nothing is left out."""
    if depth > DEPTH_MAX or value is None:
        return None
    if isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, Mapping):
        kept = {str(name): _plain(inner, depth + 1) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner is not None}
    if isinstance(value, list):
        return [inner for inner in (_plain(inner, depth + 1) for inner in value) if inner is not None]
    return str(value)[:TEXT_CHARACTERS_MAX]
