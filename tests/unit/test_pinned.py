"""Environments of other people's programs: made once for each content of their constraints."""

import zipfile
from pathlib import Path

import click
import pytest

from nacre.cli import pinned
from nacre.cli.pinned import Environment, Wheel, unpack


def test_another_version_is_another_environment(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("thing==1.0\n")
    whole = Environment("things", constraints).directory
    assert whole == Environment("things", constraints).directory
    assert whole != Environment("things", constraints, wanted=("thing",)).directory
    assert whole != Environment("things", constraints, parts=(Wheel("other==1.0", "other"),)).directory
    constraints.write_text("thing==1.1\n")
    assert whole != Environment("things", constraints).directory


def test_of_a_big_wheel_one_folder_is_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "big.whl", "w") as archive:
        for name in ("all/one/a.py", "all/one/deep/b.py", "all/oneself/c.py", "all/two/d.py"):
            archive.writestr(name, "")
    unpack(tmp_path / "big.whl", "all/one", tmp_path / "target")
    found = sorted(str(path.relative_to(tmp_path / "target")) for path in (tmp_path / "target").rglob("*.py"))
    assert found == ["all/one/a.py", "all/one/deep/b.py"]


def test_what_cannot_be_made_is_an_error_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package must never look like an environment that is there."""
    monkeypatch.setattr(pinned, "base", lambda: tmp_path / "made")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("./nowhere\n")
    for _ in range(2):
        with pytest.raises(click.ClickException, match="nowhere"):
            Environment("broken", constraints).ensure()
