"""Files of real containers, in and out: commit, changes, export and archives, as the agent is asked for them."""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nacre.node.runtimes.containers.streams.server import ContainerStreams
from nacre.protocol.containers import Mount
from nacre.protocol.guests import Guest
from nacre.protocol.streams import CloseStdin, Exit, Started
from tests.node.containers_support import WAIT_S, add, busybox_layer, eventually, oci_archive
from tests.node.docker_support import DockerRoom, again, docker
from tests.node.test_docker_streams import Line

pytestmark = pytest.mark.root


class Filing(DockerRoom):
    """A room whose guests' files can be asked for."""

    def new_driver(self) -> Any:
        driver = super().new_driver()
        self.streams = ContainerStreams(driver)
        return driver

    async def talk(self, kind: str, guest: Guest, said: bytes = b"", **params: Any) -> Line:
        line = Line()
        for start in range(0, len(said), 100_000):
            line.said.put_nowait(said[start : start + 100_000])
        line.said.put_nowait(CloseStdin())
        await asyncio.wait_for(self.streams.serve(kind, guest.id, params, line), WAIT_S)
        assert isinstance(line.words[0], Started)
        assert line.words[-1] == Exit(0)
        return line

    async def tar(self, kind: str, guest: Guest, **params: Any) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """name -> (member, content), in the order of the tar."""
        found = {}
        with tarfile.open(fileobj=io.BytesIO((await self.talk(kind, guest, **params)).text())) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                found[member.name] = (member, file.read() if file else b"")
        return found

    async def ask(self, kind: str, guest: Guest, **params: Any) -> Any:
        return json.loads(await asyncio.wait_for(self.streams.whole(kind, guest.id, params), WAIT_S))


def play(story: Callable[[Filing], Coroutine[Any, Any, None]]) -> None:
    async def closing(room: Any) -> None:
        try:
            await story(room)
        finally:
            await room.streams.close()

    docker(closing, Filing)


def layered(room: Filing) -> Any:
    """busybox, and some files to change."""
    out = io.BytesIO(busybox_layer())
    with tarfile.open(fileobj=out, mode="a") as tar:
        for folder in ("gone", "anew", "same", "deep", "deep/er"):
            add(tar, folder, mode=0o755, kind=tarfile.DIRTYPE)
        for name in ("gone/a", "anew/old", "anew/kept", "same/x", "deep/er/y", "removed", "changed"):
            add(tar, name, b"of the image")
    return room.source.add(oci_archive([out.getvalue()], {"Cmd": ["sh"]}))


CHANGES = """
rm -r /removed /gone /anew
mkdir /anew; echo new > /anew/new; echo again > /anew/kept
echo more >> /changed; chown 33:12 /changed; chmod 4755 /changed
ln /changed /same/linked; ln -s ../../etc/passwd /same/out
mkfifo /pipe; mkdir -p /made/in; touch -d @1000000000 /made/in/file
echo in a volume > /data/file; echo x > /tmp/x
touch /marked; mkdir /var/lib
echo done
"""


def test_what_a_guest_changed_becomes_a_layer() -> None:
    async def story(room: Filing) -> None:
        volume = await room.volume()
        mounts = (Mount("/data", "volume", volume_id=volume),)
        guest = room.sh(CHANGES + "exec sleep 1000", changes={"image": layered(room)}, mounts=mounts)
        await room.driver.apply(guest)
        await room.console_shows(guest, "done")
        upper = room.config.state / "guests" / guest.id / "disk" / "upper"
        os.setxattr(upper / "marked", "user.note", b"\xff\x00kept")
        assert room.inside(guest, "/bin/busybox", "touch", "/marked").returncode == 0

        line = await room.talk("commit", guest, pause=True)
        assert not room.driver.parts.cgroups.is_frozen(guest.id)
        again = await room.talk("commit", guest, pause=False)
        assert line.text() == again.text(), "the same tree gives the same bytes"
        found = await room.tar("commit", guest, pause=True)
        shown = {name for name in found if name not in ("var", "tmp", "same", "made", "made/in")}
        assert shown == {
            *(".wh.gone", ".wh.removed", "anew", "anew/.wh..wh..opq", "anew/new", "anew/kept", "changed"),
            *("made/in/file", "marked", "pipe", "same/linked", "same/out", "tmp/x", "var/lib"),
        }
        changed, text = found["changed"]
        assert (changed.uid, changed.gid, changed.mode, text) == (33, 12, 0o4755, b"of the imagemore\n")
        assert (found["same/linked"][0].type, found["same/linked"][0].linkname) == (tarfile.LNKTYPE, "changed")
        assert found["same/out"][0].linkname == "../../etc/passwd"
        assert found["made/in/file"][0].mtime == 1_000_000_000
        assert found["pipe"][0].isfifo()
        note = found["marked"][0].pax_headers["SCHILY.xattr.user.note"]
        assert note.encode("utf-8", "surrogateescape") == b"\xff\x00kept"
        assert found["anew"][0].uid == 0

        sizes = await room.ask("size", guest)
        assert sizes["SizeRw"] == sum(member.size for member, _ in found.values())
        assert sizes["SizeRootFs"] == sizes["SizeRw"] + guest.image.size_bytes

        kinds = {entry["Path"]: entry["Kind"] for entry in await room.ask("changes", guest)}
        expected = {
            "/gone": 2,
            "/removed": 2,
            "/anew": 0,
            "/anew/old": 2,
            "/anew/kept": 1,
            "/anew/new": 1,
            "/changed": 0,
            "/made": 1,
        }
        assert {path: kinds.get(path) for path in expected} == expected
        assert not kinds.keys() & {"/etc", "/data", "/dev", "/proc"}

    play(story)


def a_tar(*members: tuple[str, bytes, str]) -> bytes:
    """(name, content, link): a file, or a symbolic link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content, link in members:
            add(tar, name, content, link=link)
    return out.getvalue()


@pytest.mark.parametrize("running", [True, False])
def test_files_go_in_and_out_and_no_link_leads_out_of_the_guest(running: bool, tmp_path: Any) -> None:
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("of the host")

    async def story(room: Filing) -> None:
        script = f"ln -s / /tmp/root; ln -s {tmp_path} /tmp/abs; ln -s ../../../../../../..{tmp_path} /tmp/up; echo x > /tmp/x"
        script += f"; mkdir /tmp/full; ln -s {secret} /tmp/secret; ln -s /data /tmp/data; echo done; exec sleep 1000"
        guest = room.sh(script, mounts=(Mount("/data", "volume", volume_id=await room.volume()),))
        await room.driver.apply(guest)
        await room.console_shows(guest, "done")
        if not running:
            await room.driver.apply(again(guest, power="stopped"))

        stat = await room.ask("archive_stat", guest, path="/tmp/root/tmp/full", name="one")
        assert (stat["name"], stat["mode"], stat["linkTarget"]) == ("full", 1 << 31 | 0o755, "")
        link = await room.ask("archive_stat", guest, path="/tmp/root", name="one")
        assert (link["mode"], link["linkTarget"]) == (1 << 27 | 0o777, "/")
        found = await room.tar("archive_get", guest, path="/tmp/root/tmp/x", name="one")
        assert found["x"][1] == b"x\n"
        assert (found["x"][0].uid, found["x"][0].gid) == (0, 0)
        folder = await room.tar("archive_get", guest, path="/tmp", name="one")
        assert {"tmp", "tmp/x", "tmp/root", "tmp/full"} <= set(folder)
        for path in ("/tmp/abs/secret", "/tmp/up/secret", "/nope", "/tmp/x/y", str(secret), "/proc/1/root/no-such"):
            for kind in ("archive_get", "archive_put"):
                with pytest.raises(LookupError, match=f"Could not find the file {path} in container one"):
                    await room.talk(kind, guest, path=path, name="one")

        data = a_tar(
            ("in/file", b"came", ""), ("in/out", b"", str(tmp_path)), ("in/out/evil", b"evil", ""), ("../../above", b"a", "")
        )
        with pytest.raises((OSError, ValueError)):
            await room.talk("archive_put", guest, data, path="/tmp/full", name="one")
        await room.talk(
            "archive_put", guest, a_tar(("in/file", b"came", ""), ("../../above", b"a", "")), path="/tmp/full", name="one"
        )
        found = await room.tar("archive_get", guest, path="/tmp/full/.", name="one")
        assert found["./in/file"][1] == b"came"
        assert found["./above"][1] == b"a"
        assert [path.name for path in tmp_path.iterdir()] == ["secret"]
        strict = {"no_overwrite_dir_non_dir": True}
        with pytest.raises(ValueError, match="cannot overwrite directory"):
            await room.talk("archive_put", guest, a_tar(("full", b"", "")), path="/tmp", name="one", **strict)
        with pytest.raises(ValueError, match="extraction point is not a directory"):
            await room.talk("archive_put", guest, data, path="/tmp/x", name="one")
        await room.talk("archive_put", guest, a_tar(("v", b"kept", "")), path="/tmp/data/", name="one")
        assert (await room.tar("archive_get", guest, path="/data/v", name="one"))["v"][1] == b"kept"
        assert (await room.tar("archive_get", guest, path="/", name="one"))["data/v"][1] == b"kept"
        assert bool(room.folders.users) is running, "whoever looked into the volume has let go of it"
        whole = await room.tar("export", guest)
        assert whole["tmp/full/in/file"][1] == b"came"
        assert whole["bin/busybox"][0].uid == 0

    play(story)


def test_the_volumes_of_a_guest_that_does_not_run_are_read_and_written_in_their_places(tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")

    async def story(room: Filing) -> None:
        data, inner, fixed = [await room.volume() for _ in range(3)]
        (room.folders.root / data / "link").symlink_to(tmp_path)
        (room.folders.root / data / "up").symlink_to("../../../../../../../../.." + str(tmp_path))
        (room.folders.root / fixed / "old").write_text("old")
        mounts = (
            Mount("/data/inner", "volume", volume_id=inner),
            Mount("/data", "volume", volume_id=data),
            Mount("/linked/there", "volume", volume_id=fixed, read_only=True),
            Mount("/memory", "tmpfs"),
        )
        guest = room.sh("ln -s /data /way; echo done; exec sleep 1000", mounts=mounts, read_only=False)
        await room.driver.apply(guest)
        await room.console_shows(guest, "done")
        await room.driver.apply(again(guest, power="stopped"))

        members = a_tar(("inner/deep/one", b"1", ""), ("two", b"2", ""))
        await room.talk("archive_put", guest, members, path="/way", name="one")
        assert (room.folders.root / inner / "deep" / "one").read_text() == "1", "it went where the guest will find it"
        assert (room.folders.root / data / "two").stat().st_uid == 0, "with the id that it has in the guest"
        assert list((room.folders.root / data / "inner").iterdir()) == []
        found = await room.tar("archive_get", guest, path="/data", name="one")
        assert (found["data/inner/deep/one"][1], found["data/two"][0].uid) == (b"1", 0)
        assert (await room.ask("archive_stat", guest, path="/data/link", name="one"))["linkTarget"] == str(tmp_path)
        for path in ("/data/link/secret", "/data/up/secret"):
            with pytest.raises(LookupError, match="Could not find the file"):
                await room.talk("archive_get", guest, path=path, name="one")
        with pytest.raises(ValueError, match="mounted volume is marked read-only"):
            await room.talk("archive_put", guest, members, path="/linked/there", name="one")
        with pytest.raises(FileExistsError, match="lies in a tmpfs"):
            await room.talk("archive_put", guest, members, path="/memory", name="one")
        assert not room.folders.users

        # A client that is slow to send its tar holds up nobody: the guest is started, and the tar is given up.
        line = Line()
        line.said.put_nowait(a_tar(("slow", b"slow", ""))[:600])
        putting = asyncio.create_task(room.streams.serve("archive_put", guest.id, {"path": "/data", "name": "one"}, line))
        await eventually(lambda: line.words, "the helper is ready")
        assert {volume for volume, _ in room.folders.users} == {data, inner, fixed}
        await room.driver.apply(again(guest, generation=guest.generation + 2, boots=2))
        with pytest.raises(FileExistsError, match="is being started or removed"):
            await asyncio.wait_for(putting, WAIT_S)
        assert {user for _, user in room.folders.users} == {guest.id}
        assert room.inside(guest, "/bin/busybox", "cat", "/data/inner/deep/one").stdout.strip() == "1"

    play(story)
