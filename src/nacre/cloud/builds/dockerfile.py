"""The Dockerfile's lines as instructions. Source: https://docs.docker.com/reference/dockerfile/ and the classic builder's parser."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nacre.cloud.builds import words
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
_HEREDOC = re.compile(r"(\d*)<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_.-]*)\3")
DOCUMENTS_MAX = 100
"""Here-documents of one instruction."""


@dataclass(frozen=True)
class Document:
    """A here-document: `word` is what stands for it in the instruction, `raw` its lines up to and with the last, `text` what it says."""

    word: str
    name: str
    raw: str
    text: str
    expands: bool
    """Whether its variables are replaced: a name in quotes keeps them."""


@dataclass(frozen=True)
class Instruction:
    """`text` is what follows the name and the flags; `original` is the whole, as it is shown."""

    line: int
    name: str
    text: str
    flags: dict[str, str]
    original: str
    documents: tuple[Document, ...] = ()


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
    found = [instruction(text, line, documents) for line, text, documents in _joined(lines, escape)]
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


def _joined(lines: list[str], escape: str) -> list[tuple[int, str, tuple[Document, ...]]]:
    """(number of its first line, text, here-documents) of each instruction: continued lines are joined, comments and empty lines between
    them left out. Raises Invalid for a here-document without an end."""
    found: list[tuple[int, str, tuple[Document, ...]]] = []
    ending = re.compile(rf"{re.escape(escape)}[ \t]*$")
    begun, text = 0, ""
    numbered = iter(enumerate(lines, 1))
    for number, line in numbered:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begun = begun or number
        part = line if text else line.lstrip()
        if ending.search(part):
            text += ending.sub("", part)
            continue
        whole = (text + part).strip()
        found.append((begun, whole, tuple(_document(word, numbered, number) for word in _document_words(whole, escape))))
        begun, text = 0, ""
    if text.strip():
        found.append((begun, text.strip(), ()))
    return found


def _document_words(text: str, escape: str) -> list[str]:
    """The words of an instruction that stand for here-documents. Raises Invalid."""
    name, _, rest = text.partition(" ")
    if name.upper() not in ("RUN", "COPY", "ADD") or "<<" not in rest or rest.lstrip().startswith("["):
        return []
    found = [word for word in words.split(rest, escape) if _HEREDOC.fullmatch(word)]
    if len(found) > DOCUMENTS_MAX:
        raise Invalid(f"an instruction has more than {DOCUMENTS_MAX} here-documents")
    return found


def _document(word: str, numbered: Iterator[tuple[int, str]], line: int) -> Document:
    """Takes its lines. Raises Invalid where the last is missing."""
    match = _HEREDOC.fullmatch(word)
    assert match is not None
    raw: list[str] = []
    for _, each in numbered:
        raw.append(each)
        if (each.lstrip("\t") if match[2] else each) == match[4]:
            said = [part.lstrip("\t") if match[2] else part for part in raw[:-1]]
            text = "".join(f"{part}\n" for part in said)
            return Document(word, match[4], "\n".join(raw), text, expands=not match[3])
    raise Invalid(f"dockerfile parse error line {line}: unterminated heredoc: {match[4]}")


def instruction(text: str, line: int = 0, documents: tuple[Document, ...] = ()) -> Instruction:
    """One instruction. Raises Invalid."""
    match = re.match(r"(\S+)\s*(.*)", text, re.DOTALL)
    assert match is not None
    name, rest = match[1].upper(), match[2].strip()
    where = f"dockerfile parse error line {line}: "
    if name not in NAMES:
        raise Invalid(f"{where}unknown instruction: {name}")
    if name == "ONBUILD" and any(_HEREDOC.fullmatch(word) for word in rest.split()):
        raise Invalid(f"{where}a trigger cannot have a here-document: its lines would not be in the image")
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
    return Instruction(line, name, rest, flags, f"{name} {match[2].strip()}", documents)
