"""exec, attach and logs of real containers, as the agent is asked for them."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nacre.node.runtimes.containers.streams.server import ContainerStreams
from nacre.protocol.guests import Guest
from nacre.protocol.streams import Channel, CloseStdin, Exit, Failure, FromClient, FromGuest, Resize, Started
from tests.node.containers_support import WAIT_S, Room, eventually
from tests.node.test_containers import tell

pytestmark = pytest.mark.root


class Line:
    """A client's end of a stream: implements Talk."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes | FromClient | None] = asyncio.Queue()
        self.heard: list[tuple[Channel, bytes]] = []
        self.words: list[FromGuest] = []
        self.gone = False
        self.changed = asyncio.Condition()

    async def send(self, channel: Channel, data: bytes) -> None:
        if self.gone:
            raise ConnectionResetError("gone")
        self.heard.append((channel, bytes(data)))

    async def control(self, message: FromGuest) -> None:
        if self.gone:
            raise ConnectionResetError("gone")
        self.words.append(message)

    async def receive(self) -> bytes | FromClient | None:
        return await self.said.get()

    def go(self) -> None:
        self.gone = True
        self.said.put_nowait(None)

    def text(self, channel: Channel = Channel.STDOUT) -> bytes:
        return b"".join(data for heard, data in self.heard if heard is channel)


class Streams(Room):
    def new_driver(self) -> Any:
        driver = super().new_driver()
        self.streams = ContainerStreams(driver)
        return driver

    def open(self, kind: str, guest: Guest, **params: Any) -> "tuple[Line, asyncio.Task[None]]":
        line = Line()
        return line, asyncio.create_task(self.streams.serve(kind, guest.id, params, line))

    async def run(self, guest: Guest, *argv: str, said: bytes = b"", **params: Any) -> Line:
        line, serving = self.open("exec", guest, argv=list(argv), stdin=bool(said), **params)
        if said:
            line.said.put_nowait(said)
            line.said.put_nowait(CloseStdin())
        await asyncio.wait_for(serving, WAIT_S)
        return line


Story = Callable[[Streams], Coroutine[Any, Any, None]]


def play(story: Story) -> None:
    async def closing(room: Any) -> None:
        try:
            await story(room)
        finally:
            await room.streams.close()

    tell(closing, Streams)


SLEEPER = "#!/bin/sh\nexec sleep 1000\n"


def test_exec_runs_with_the_guests_own_bounds_and_tells_the_exit_status() -> None:
    async def story(room: Streams) -> None:
        guest = room.guest()
        await room.driver.apply(guest)
        line = await room.run(guest, "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (line.text(), line.text(Channel.STDERR)) == (b"out\n", b"err\n")
        started, ended = line.words
        assert isinstance(started, Started)
        assert started.pid > 0
        assert ended == Exit(7)

        line = await room.run(guest, "cat", said=b"there and back\n" * 10_000)
        assert line.text() == b"there and back\n" * 10_000

        for user, shown in (("", b"0:0"), ("web", b"33:33"), ("33", b"33:33"), ("12:web", b"12:33"), ("web:0", b"33:0")):
            line = await room.run(guest, "sh", "-c", "echo $(id -u):$(id -g)", user=user)
            assert line.text() == shown + b"\n", user
        line = await room.run(guest, "sh", "-c", "echo $HOME $A; pwd", user="web", env=["A=b"], cwd="/tmp")
        assert line.text() == b"/var b\n/tmp\n"

        own = (await room.run(guest, "cat", "/proc/1/status", "/proc/1/limits", "/proc/1/cgroup")).text().decode()
        mine = (await room.run(guest, "cat", "/proc/self/status", "/proc/self/limits", "/proc/self/cgroup")).text().decode()
        names = ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb", "Seccomp:", "NoNewPrivs", "Max open files", "Max processes")
        for name in names:
            pick = [[row for row in text.splitlines() if row.startswith(name)] for text in (own, mine)]
            assert pick[0] == pick[1], name
        assert own[own.index("Max realtime timeout") :] == mine[mine.index("Max realtime timeout") :], "the same cgroups"
        line = await room.run(guest, "ls", "/proc/self/fd")
        assert line.text().split() == [b"0", b"1", b"2", b"3"], "the standard three and the folder itself"
        line = await room.run(
            guest, "sh", "-c", "for n in mnt pid net ipc uts user cgroup; do readlink /proc/self/ns/$n /proc/1/ns/$n; done"
        )
        links = line.text().split()
        assert links[::2] == links[1::2]
        line = await room.run(guest, "sh", "-c", "mount -t tmpfs none /mnt; unshare -U true")
        assert line.words[-1] != Exit(0)

    play(story)


def test_exec_says_what_cannot_be_run_in_dockers_words() -> None:
    async def story(room: Streams) -> None:
        guest = room.guest(SLEEPER)
        await room.driver.apply(guest)
        cases = {
            ("nope",): ("exec_127", 'exec: "nope": executable file not found in $PATH'),
            ("/no/such",): ("exec_127", 'exec: "/no/such": stat /no/such: no such file or directory'),
            ("/etc/passwd",): ("exec_126", 'exec: "/etc/passwd": permission denied'),
            ("/tmp",): ("exec_126", 'exec: "/tmp": permission denied'),
        }
        for argv, (kind, message) in cases.items():
            line = await room.run(guest, *argv)
            assert line.words == [Failure(kind, message)]
        line = await room.run(guest, "true", user="nobody-here")
        assert line.words == [Failure("invalid", "unable to find user nobody-here: no matching entries in passwd file")]
        line = await room.run(guest, "true", cwd="/nope")
        assert line.words[0].kind == "exec_127"  # type: ignore[union-attr]
        await room.driver.apply(_stopped(guest))
        with pytest.raises(FileExistsError, match="not running"):
            await room.run(guest, "true")

    play(story)


def _stopped(guest: Guest) -> Guest:
    import msgspec

    return msgspec.structs.replace(guest, power="stopped", generation=guest.generation + 1)


def test_exec_with_a_terminal_has_its_size_and_goes_on_when_the_client_goes() -> None:
    async def story(room: Streams) -> None:
        guest = room.guest(SLEEPER)
        await room.driver.apply(guest)
        line, serving = room.open("exec", guest, argv=["sh"], tty=True, stdin=True, h=31, w=91, id="e1")
        line.said.put_nowait(b"stty size\n")
        await eventually(lambda: b"31 91" in line.text(), "the size")
        line.said.put_nowait(Resize(20, 70))
        line.said.put_nowait(b"stty size; tty\n")
        await eventually(lambda: b"20 70" in line.text() and b"/dev/pts/" in line.text(), "the other size")
        await room.streams.whole("resize", guest.id, {"exec": "e1", "h": 10, "w": 40})
        line.said.put_nowait(b"stty size; exit 3\n")
        await asyncio.wait_for(serving, WAIT_S)
        assert b"10 40" in line.text()
        assert line.words == [Started(line.words[0].pid, True), Exit(3)]  # type: ignore[union-attr]

        line, serving = room.open("exec", guest, argv=["sh", "-c", "while :; do echo x; sleep 0.02; done"])
        await eventually(lambda: b"x" in line.text(), "output")
        line.go()
        pid = line.words[0].pid  # type: ignore[union-attr]
        for _ in range(20):
            await asyncio.sleep(0.02)
            os.kill(pid, 0)
        await room.driver.apply(_stopped(guest))
        await asyncio.wait_for(serving, WAIT_S)

    play(story)


def test_an_exec_outlives_the_node_and_ends_with_its_guest() -> None:
    async def story(room: Streams) -> None:
        guest = room.guest(SLEEPER)
        await room.driver.apply(guest)
        line, serving = room.open("exec", guest, argv=["sh", "-c", "while :; do echo 0123456789; done"])
        await eventually(lambda: line.text(), "output")
        pid = line.words[0].pid  # type: ignore[union-attr]
        await room.streams.close()
        await room.restart()
        for _ in range(20):
            await asyncio.sleep(0.05)
            os.kill(pid, 0)
        line, serving = room.open("exec", guest, argv=["sleep", "1000"])
        await eventually(lambda: line.words, "another exec")
        await room.driver.apply(_stopped(guest))
        await asyncio.wait_for(serving, WAIT_S)
        assert line.words[-1] in (Exit(128 + signal.SIGTERM), Exit(128 + signal.SIGKILL))
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    play(story)


def test_attach_hears_the_first_word_and_types_to_the_guest() -> None:
    async def story(room: Streams) -> None:
        guest = room.guest(image=room.command_image("sh", "-c", "echo first; while read x; do echo got $x; done"))
        await room.driver.apply(_stopped(guest))
        import msgspec

        guest = msgspec.structs.replace(guest, generation=3, boots=2)
        first, serving_first = room.open("attach", guest, stdin=True)
        second, serving_second = room.open("attach", guest)
        await eventually(lambda: first.words and second.words, "both wait")
        await asyncio.sleep(0.1)
        await room.driver.apply(guest)
        await eventually(lambda: b"first" in first.text() and b"first" in second.text(), "the first word")
        first.said.put_nowait(b"hello\n")
        await eventually(lambda: b"got hello" in second.text(), "what the other one typed")
        second.go()
        await asyncio.wait_for(serving_second, WAIT_S)
        first.said.put_nowait(Resize(24, 77))
        first.said.put_nowait(b"again\n")
        await eventually(lambda: b"got again" in first.text(), "the guest goes on")
        await room.driver.apply(_stopped(guest))
        await asyncio.wait_for(serving_first, WAIT_S)
        assert isinstance(first.words[-1], Exit)

    play(story)


def test_logs_keep_time_and_stream_over_a_rotation_and_are_followed_to_the_end() -> None:
    async def story(room: Streams) -> None:
        count = "i=0; while [ $i -lt 60000 ]; do echo line $i 0123456789012345678901234567890123456789; i=$((i+1)); done"
        script = f"echo begin; {count}; echo end; read x"
        guest = room.guest(image=room.command_image("sh", "-c", script))
        await room.driver.apply(guest)
        follow, serving = room.open("logs", guest, follow=True)
        await eventually(lambda: b"\nend" in follow.text().replace(b"\r", b""), "the end is followed")
        numbers = [int(row.split()[1]) for row in follow.text().splitlines() if row.startswith(b"line ")]
        assert numbers == list(range(60000)), "none is lost and none comes twice"
        assert b"begin" in follow.text()
        tail, _ = room.open("logs", guest, tail=3, timestamps=True)
        await eventually(lambda: tail.words and isinstance(tail.words[-1], Exit), "the tail")
        rows = tail.text().splitlines()
        assert [row.split()[1] for row in rows] == [b"line", b"line", b"end"]
        assert all(row.split()[0].endswith(b"Z") and len(row.split()[0]) == 30 for row in rows)
        now = time.time()
        for since, until, found in (
            (now + 60, 0.0, False),
            (now - 600, 0.0, True),
            (0.0, now - 600, False),
            (0.0, now + 600, True),
        ):
            some, _ = room.open("logs", guest, since=since, until=until)
            await eventually(lambda some=some: some.words and isinstance(some.words[-1], Exit), "a part")
            assert (b"end" in some.text()) is found, (since, until)
        logs = room.config.state / "guests" / guest.id / "logs"
        await eventually(lambda: [path for path in logs.glob("kept-*") if path.name != "kept-0"], "it was rotated")
        assert (await room.driver.console(guest.id)).endswith(b"end\r\n")
        await room.driver.apply(_stopped(guest))
        await asyncio.wait_for(serving, WAIT_S)
        assert isinstance(follow.words[-1], Exit)

    play(story)
