"""The Dockerfile's lines as instructions. Source: https://docs.docker.com/reference/dockerfile/ and the classic builder's parser."""

import re
from dataclasses import dataclass

from nacre.cloud.errors import Invalid

BYTES_MAX = 1 << 20
INSTRUCTIONS_MAX = 1000
NAMES = frozenset(
    (
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
        *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    )
)
FLAGS = {"ADD": {"chown", "chmod"}, "COPY": {"chown", "chmod", "from"}, "FROM": {"platform"}}
"""HEALTHCHECK's are read with its command. RUN has none in the classic builder: --mount and the like are BuildKit's."""
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)")
_HEREDOC = re.compile(r"(?:^|\s)\d*<<-?\s*(['\"]?)[A-Za-z_][A-Za-z0-9_.]*\1")


@dataclass(frozen=True)
class Instruction:
    """`text` is what follows the name and the flags; `original` is the whole, as it is shown."""

    line: int
    name: str
    text: str
    flags: dict[str, str]
    original: str


@dataclass(frozen=True)
class Dockerfile:
    instructions: tuple[Instruction, ...]
    escape: str = "\\"


def parse(data: bytes, name: str = "Dockerfile") -> Dockerfile:
    """Raises Invalid in the engine's words, with the line."""
    if len(data) > BYTES_MAX:
        raise Invalid(f"the Dockerfile ({name}) is larger than {BYTES_MAX} bytes")
    try:
        lines = data.removeprefix(b"\xef\xbb\xbf").decode().splitlines()
    except UnicodeDecodeError:
        raise Invalid(f"the Dockerfile ({name}) is not UTF-8 text") from None
    escape = _escape_of(lines)
    found = [instruction(text, line) for line, text in _joined(lines, escape)]
    if not found:
        raise Invalid(f"the Dockerfile ({name}) cannot be empty")
    if len(found) > INSTRUCTIONS_MAX:
        raise Invalid(f"the Dockerfile ({name}) has more than {INSTRUCTIONS_MAX} instructions")
    return Dockerfile(tuple(found), escape)


def _escape_of(lines: list[str]) -> str:
    """Directives stand before everything else."""
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        if match[1].lower() == "escape":
            if match[2] not in ("\\", "`"):
                raise Invalid(f"dockerfile parse error line {number}: invalid ESCAPE '{match[2]}'. Must be ` or \\")
            return match[2]
    return "\\"


def _joined(lines: list[str], escape: str) -> list[tuple[int, str]]:
    """(number of its first line, text) of each instruction: continued lines are joined, comments and empty lines between them left out."""
    found: list[tuple[int, str]] = []
    ending = re.compile(rf"{re.escape(escape)}[ \t]*$")
    begun, text = 0, ""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun or number
        part = line if text else line.lstrip()
        if ending.search(part):
            text += ending.sub("", part)
            continue
        found.append((begun, (text + part).strip()))
        begun, text = 0, ""
    if text.strip():
        found.append((begun, text.strip()))
    return found


def instruction(text: str, line: int = 0) -> Instruction:
    """One instruction. Raises Invalid."""
    match = re.match(r"(\S+)\s*(.*)", text, re.DOTALL)
    assert match is not None
    name, rest = match[1].upper(), match[2].strip()
    where = f"dockerfile parse error line {line}: "
    if name not in NAMES:
        raise Invalid(f"{where}unknown instruction: {name}")
    if name in ("RUN", "COPY", "ADD") and _HEREDOC.search(rest):
        raise Invalid(f"{where}{name} has a here-document: those are BuildKit's, which this builder is not")
    flags: dict[str, str] = {}
    known = FLAGS.get(name, set())
    while name not in ("HEALTHCHECK", "ONBUILD") and (flag := _FLAG.match(rest)):
        if flag[1] not in known:
            more = ": it needs BuildKit, which this builder is not" if flag[1] in ("mount", "network", "security", "link") else ""
            raise Invalid(f"{where}Unknown flag: {flag[1]}{more}")
        if flag[2] is None:
            raise Invalid(f"{where}Missing a value on flag: {flag[1]}")
        flags[flag[1]], rest = flag[2], rest[flag.end() :]
    if not rest:
        raise Invalid(f"{where}{name} requires {'exactly' if name in ('USER', 'WORKDIR') else 'at least'} one argument")
    return Instruction(line, name, rest, flags, f"{name} {match[2].strip()}")
