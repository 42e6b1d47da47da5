"""Files of removed guests: out of the way at once, gone in the end, also after a node that died."""

from pathlib import Path

from nacre.node.runtimes.containers.trash import PENDING_MAX, Trash


def _folder(path: Path, files: int = 3) -> Path:
    (path / "disk").mkdir(parents=True)
    for number in range(files):
        (path / "disk" / str(number)).write_text("words")
    return path


def test_what_is_thrown_away_is_out_of_the_way_and_then_gone(tmp_path: Path) -> None:
    trash = Trash(tmp_path / ".trash")
    trash.start()
    for _ in range(2):
        trash.take(_folder(tmp_path / "guest"))
        assert not (tmp_path / "guest").exists()
    trash.take(tmp_path / "nobody")
    trash.settle()
    assert list((tmp_path / ".trash").iterdir()) == []
    trash.close()


def test_what_a_killed_node_left_goes_at_the_next_start(tmp_path: Path) -> None:
    _folder(tmp_path / ".trash" / "guest.1")
    trash = Trash(tmp_path / ".trash")
    assert [name for name, _ in trash.left()] == ["guest"]
    trash.start()
    assert list(trash.left()) == []
    trash.settle()
    assert list((tmp_path / ".trash").iterdir()) == []
    trash.close()


def test_what_cannot_be_deleted_is_said_to_be_left(tmp_path: Path) -> None:
    trash = Trash(tmp_path / ".trash")
    trash.start()
    (tmp_path / "guest").write_text("no folder at all: it is not deleted as one")
    trash.take(tmp_path / "guest")
    trash.settle()
    assert [name for name, _ in trash.left()] == ["guest"]
    trash.close()


def test_many_that_wait_make_the_next_removal_wait(tmp_path: Path) -> None:
    trash = Trash(tmp_path / ".trash")
    trash.start()
    for number in range(PENDING_MAX * 2):
        trash.take(_folder(tmp_path / f"guest-{number}", 1))
        if trash.is_full:
            trash.settle()
        assert not trash.is_full
    trash.settle()
    assert list((tmp_path / ".trash").iterdir()) == []
    trash.close()
