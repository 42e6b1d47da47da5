"""What a linter cannot hold: sizes, docstrings, names and documents. Each rule is one test over the tracked files."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nacre.cli.__main__ import COMMANDS

CLONE = Path(__file__).resolve().parent.parent
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
FILE_BYTES_MAX = 200_000

UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error")) + r")\b")
INDEX_HOST = re.compile(r"(pypi\.org|pythonhosted|--index-url|--extra-index-url|deb\.debian\.org|snapshot\.debian)")
GENERATED = "src/nacre/store/migrations/versions/"
HISTORIC = ("docs/decisions/",)
"""Decisions may name what was weighed."""


def tracked(*suffixes: str) -> list[Path]:
    """The files that git knows or would know."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=CLONE, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        CLONE / name for name in sorted(set(listed)) if (CLONE / name).is_file() and (not suffixes or name.endswith(suffixes))
    ]


def written() -> list[Path]:
    """The Python files that people write: migrations are drafted by a tool and never change again."""
    return [path for path in tracked(".py") if not shown(path).startswith(GENERATED)]


def modules() -> list[Path]:
    return [path for path in tracked(".py") if path.is_relative_to(CLONE / "src" / "nacre")]


def shown(path: Path) -> str:
    return str(path.relative_to(CLONE))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_a_function_fits_a_screen() -> None:
    long = [
        f"{shown(path)}:{node.lineno} {node.name} has {lines} lines"
        for path in written()
        for node in functions(ast.parse(path.read_text()))
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long


def test_a_file_has_one_job_and_five_hundred_lines_at_most() -> None:
    long = [f"{shown(path)}: {lines}" for path in written() if (lines := len(path.read_text().splitlines())) > FILE_LINES_MAX]
    assert not long


def test_no_file_is_big() -> None:
    big = [shown(path) for path in tracked() if path.stat().st_size > FILE_BYTES_MAX]
    assert not big


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{shown(path)}:{number}"
        for path in tracked(".py", ".sh", ".toml", ".md")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not found


def test_modules_and_public_classes_say_what_they_are() -> None:
    silent = []
    for path in modules():
        tree = ast.parse(path.read_text())
        if ast.get_docstring(tree) is None:
            silent.append(shown(path))
        silent += [
            f"{shown(path)}:{node.lineno} {node.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
            and not is_plain_record(node)
        ]
    assert not silent


def is_plain_record(node: ast.ClassDef) -> bool:
    """A class that is only its typed fields, or only its base, says what it is by its name."""
    return all(isinstance(statement, ast.AnnAssign | ast.Pass | ast.Expr) for statement in node.body)


def test_only_programs_print() -> None:
    printing = [
        f"{shown(path)}:{node.lineno}"
        for path in modules()
        if not path.is_relative_to(CLONE / "src" / "nacre" / "cli") and '__name__ == "__main__"' not in path.read_text()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not printing


def test_no_index_host_is_named() -> None:
    found = [
        f"{shown(path)}:{number}"
        for path in tracked(".py", ".sh", ".toml", ".txt", ".cfg", ".md", "nacre")
        if not shown(path).startswith(HISTORIC) and path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if INDEX_HOST.search(line)
    ]
    assert not found


def test_every_document_begins_with_its_title() -> None:
    untitled = [shown(path) for path in tracked(".md") if not re.match(r"# \S", path.read_text())]
    assert not untitled


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = []
    for path in tracked(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{shown(path)} -> {target}")
    assert not broken


def test_every_command_is_in_the_operations_manual() -> None:
    manual = (CLONE / "docs" / "operations.md").read_text()
    assert [name for name in COMMANDS if f"nacre {name}" not in manual] == []


def test_every_pinned_dependency_of_ours_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = {line.partition("==")[0].lower() for line in (CLONE / "constraints.txt").read_text().splitlines() if "==" in line}
    reasons = (CLONE / "docs" / "decisions" / "0002-dependencies.md").read_text().lower()
    assert [name for name in wanted if name.lower() not in pinned] == []
    assert [name for name in wanted if f"| {name.lower()} |" not in reasons] == []
