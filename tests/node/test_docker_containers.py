"""Containers of Docker's pane: the process that was asked for, as whom it runs, and the walls around it."""

import json
import os
import re
import uuid
from pathlib import Path

import msgspec
import pytest

from nacre.node.runtimes.containers.consent import NAME
from nacre.protocol.containers import Container, Mount, Ulimit
from nacre.protocol.guests import Limits
from tests.cgroups import cgroups
from tests.node.containers_support import eventually
from tests.node.docker_support import DockerRoom, again, changed, docker

pytestmark = pytest.mark.root

DEFAULT_CAPS, ALL_BUT = "00000000a80425fb", "000001ff"


def test_it_runs_exactly_what_was_asked_for() -> None:
    async def story(room: DockerRoom) -> None:
        said = await room.says(
            room.sh("echo pid $$; id; pwd; env | sort; ls -A /", env=("COLOR=blue", "HOSTNAME=mine"), cwd="/srv/a/b", user="web")
        )
        assert "pid 1\n" in said
        assert "uid=33(web) gid=33(web) groups=33(web)" in said
        assert "\n/srv/a/b\n" in said
        for line in ("COLOR=blue", "HOSTNAME=mine", "HOME=/var", "PATH=/usr/local/sbin:"):
            assert line in said
        assert "TERM=" not in said
        assert ".nacre" not in said, "nothing of ours is in it"
        assert set((await room.says(room.container("id", "-G", user="4711:5", groups=("web", "7")))).split()) == {"5", "7", "33"}
        assert (await room.says(room.container("tty", tty=True))).strip() == "/dev/pts/0"
        assert room.driver.record(next(iter(room.driver._records))).fault == ""

    docker(story)


def test_exit_statuses_and_words_are_dockers() -> None:
    async def story(room: DockerRoom) -> None:
        for script, code in (("exit 0", 0), ("exit 3", 3), ("sleep 0.01; exit 255", 255)):
            seen = await room.ends(room.sh(script))
            assert seen.exit_code == code
            assert seen.container is not None
            assert seen.container.pid == 0
            assert seen.container.finished_at is not None
        cases = {
            ("foo",): (127, 'exec: "foo": executable file not found in $PATH'),
            ("/no/foo",): (127, 'exec: "/no/foo": stat /no/foo: no such file or directory'),
            ("/etc/passwd",): (126, 'exec: "/etc/passwd": permission denied'),
            ("/etc",): (126, 'exec: "/etc": is a directory'),
        }
        for argv, (code, text) in cases.items():
            guest = room.container(*argv)
            seen = await room.driver.apply(guest)
            assert (seen.state, seen.exit_code, seen.fault, seen.generation) == ("error", code, text, 1)
            assert (await room.driver.apply(guest)).fault == text, "the same intent is not tried again"
        who = await room.driver.apply(room.container("true", user="nobody-here"))
        assert who.fault == "unable to find user nobody-here: no matching entries in passwd file"
        big = await room.driver.apply(room.container("true", user="70000"))
        assert "must be in range" in big.fault
        killed = room.sh("sleep 60")
        await room.driver.apply(killed)
        await room.driver.signal(killed.id, "KILL")
        seen = await eventually(lambda: [seen for seen in room.seen if seen.id == killed.id], "its end")
        assert seen[0].exit_code == 137

    docker(story)


def test_a_stop_takes_the_signal_and_the_time_it_was_given() -> None:
    async def story(room: DockerRoom) -> None:
        trap = "trap 'echo got; exit 7' USR1; trap '' TERM; echo ready; while :; do sleep 0.02; done"
        for config, code in (({"stop_signal": "SIGUSR1"}, 7), ({"stop_timeout_s": 0.3}, 137)):
            guest = room.sh(trap, **config)
            await room.driver.apply(guest)
            await room.console_shows(guest, "ready")
            stopped = await room.driver.apply(again(guest, power="stopped"))
            assert (stopped.state, stopped.exit_code) == ("stopped", code)
            assert stopped.container is not None
            assert stopped.container.started_at is not None
        started = await room.driver.apply(again(guest, generation=3, boots=2, power="running"))
        assert (started.state, started.boots) == ("running", 2)

    docker(story)


def test_create_prepares_and_start_is_one_byte() -> None:
    async def story(room: DockerRoom) -> None:
        guest = room.sh("echo started; sleep 60", changes={"power": "stopped", "boots": 0})
        seen = await room.driver.apply(guest)
        assert (seen.state, seen.boots) == ("stopped", 0)
        assert seen.container is not None
        assert seen.container.pid == 0
        waiting = room.pid(guest)
        assert await room.driver.console(guest.id) == b"", "nothing runs before its start"
        started = await room.driver.apply(again(guest, power="running", boots=1))
        assert (started.state, started.boots) == ("running", 1)
        assert room.pid(guest) == waiting
        assert "create" not in started.timings_ms
        await room.console_shows(guest, "started")

        idle = room.sh("echo started; sleep 60", changes={"power": "stopped", "boots": 0})
        await room.driver.apply(idle)
        await room.driver.uncreate(idle.id)
        assert (await room.driver.apply(again(idle, power="running", boots=1))).state == "running"
        other = room.sh("echo one", changes={"power": "stopped", "boots": 0})
        await room.driver.apply(other)
        two = changed(other, env=("A=1",))
        await room.driver.apply(msgspec.structs.replace(two, power="running", boots=1, container=Container(("echo", "two"))))
        await room.console_shows(other, "two")
        absent = room.container("later", changes={"power": "stopped", "boots": 0})
        assert (await room.driver.apply(absent)).state == "stopped", "what keeps it from starting is said when it is started"
        assert (await room.driver.apply(again(absent, power="running", boots=1))).exit_code == 127
        fresh = room.sh("sleep 60", changes={"power": "stopped", "boots": 0})
        await room.driver.apply(fresh)
        await room.restart()
        assert (await room.driver.apply(again(fresh, power="running", boots=1))).state == "running"

    docker(story)


def test_capabilities_seccomp_and_privileges() -> None:
    show = "grep -E 'Cap(Eff|Bnd)|Seccomp:|NoNewPrivs' /proc/self/status | tr '\\t\\n' ' '"

    async def story(room: DockerRoom) -> None:
        plain = await room.says(room.sh(show))
        assert plain == f"CapEff: {DEFAULT_CAPS} CapBnd: {DEFAULT_CAPS} NoNewPrivs: 0 Seccomp: 2 "
        user = await room.says(room.sh(show, user="web", no_new_privileges=True))
        assert user == f"CapEff: {'0' * 16} CapBnd: {DEFAULT_CAPS} NoNewPrivs: 1 Seccomp: 2 "
        none = await room.says(room.sh(show, cap_drop=("all",)))
        assert f"CapEff: {'0' * 16}" in none
        one = await room.says(room.sh(show, cap_drop=("ALL",), cap_add=("chown", "CAP_KILL")))
        assert "CapEff: 0000000000000021" in one
        most = await room.says(room.sh(show, cap_add=("ALL",), cap_drop=("CHOWN",)))
        assert re.search(r"CapEff: 0+1ff?[0-9a-f]*e ", most)
        mounts = await room.says(room.sh("mount -t tmpfs x /tmp && echo mounted", cap_add=("SYS_ADMIN",)))
        assert mounts == "mounted\n", "in its own user namespace"
        unknown = await room.driver.apply(room.sh("true", cap_add=("FLY",)))
        assert unknown.fault == 'invalid CapAdd: unknown capability: "CAP_FLY"'

    docker(story)


def test_limits_of_processes_kernel_parameters_and_the_root_file_system() -> None:
    async def story(room: DockerRoom) -> None:
        limits = (Ulimit("nofile", 100, 200), Ulimit("core", 0, 0), Ulimit("nproc", 2**40, -1))
        said = await room.says(room.sh("ulimit -n; ulimit -Hn; ulimit -c", ulimits=limits))
        assert said == "100\n200\n0\n"
        bad = await room.driver.apply(room.sh("true", ulimits=(Ulimit("nofile", 9, 3),)))
        assert "soft limit must be less than or equal to hard limit" in bad.fault
        assert "invalid ulimit type" in (await room.driver.apply(room.sh("true", ulimits=(Ulimit("x", 1, 1),)))).fault

        sysctls = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"}
        assert (
            await room.says(room.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", sysctls=sysctls)) == "1\n9000\n"
        )
        panic = await room.driver.apply(room.sh("true", sysctls={"kernel.panic": "1"}))
        assert "not in a separate kernel namespace" in panic.fault

        script = "touch /x 2>/dev/null || echo read-only; touch /dev/shm/a /scratch/b && echo writable; df -k /dev/shm | tail -1"
        mounts = (Mount("/scratch", "tmpfs", size_bytes=1 << 20, mode=0o700),)
        said = await room.says(room.sh(script, read_only=True, shm_bytes=8 << 20, mounts=mounts))
        assert said.startswith("read-only\nwritable\n")
        assert "8192" in said

    docker(story)


def test_names_resolvers_and_hosts() -> None:
    async def story(room: DockerRoom) -> None:
        guest = room.sh(
            "cat /etc/resolv.conf /etc/hosts; cat /proc/sys/kernel/domainname; hostname",
            domainname="dom.example",
            dns=("1.2.3.4",),
            dns_search=("a.example",),
            dns_options=("ndots:2",),
            extra_hosts=("db:10.0.0.9", "six:fe80::1"),
            changes={"ports": (str(uuid.uuid4()),)},
        )
        said = await room.says(guest)
        assert "search a.example\nnameserver 1.2.3.4\noptions ndots:2\n" in said
        assert "10.9.8.7 one.dom.example one\n10.0.0.9 db\nfe80::1 six\n" in said
        assert said.endswith("dom.example\none\n")
        alone = await room.says(room.container("ls", "/sys/class/net", network="none"))
        assert alone == "lo\n"

    docker(story)


def test_containers_share_network_processes_and_ipc() -> None:
    async def story(room: DockerRoom) -> None:
        first = room.sh(
            "echo here > /dev/shm/note; nc -l -p 80 -e echo hello & sleep 600", changes={"ports": (str(uuid.uuid4()),)}
        )
        lonely = await room.driver.apply(room.container("true", network="guest", network_of=first.id))
        assert lonely.fault == f"No such container: {first.id}"
        assert (await room.driver.apply(first)).state == "running"
        await eventually((room.config.state / "guests" / first.id / "pid").exists, "it runs")
        script = "ls /sys/class/net; cat /etc/hosts; nc 127.0.0.1 80; ping -c 1 127.0.0.1 >/dev/null && echo pong"
        net = await room.says(room.sh(script, network="guest", network_of=first.id))
        assert "eth0\nlo\n" in net
        assert "10.9.8.7 one.example.org one" in net
        assert "hello\npong\n" in net
        pids = await room.says(room.sh("ps; kill -0 1 && echo may-signal", pid_of=first.id))
        assert "sleep 600" in pids
        assert "may-signal" in pids
        assert await room.says(room.sh("cat /dev/shm/note", ipc_of=first.id)) == "here\n"

        stays = room.sh("sleep 600", network="guest", network_of=first.id)
        await room.driver.apply(stays)
        slot = room.driver.record(first.id).slot
        stranger = room.sh("true", network="guest", network_of=first.id)
        instance = msgspec.structs.replace(stranger.instance, project_id="another")
        refused = await room.driver.apply(msgspec.structs.replace(stranger, instance=instance))
        assert refused.fault == f"No such container: {first.id}"
        assert (await room.driver.remove(first.id)).state == "gone"
        assert room.driver.parts.slots.user_namespace(slot).exists(), "its ids are still in use"
        assert (await room.driver.remove(stays.id)).state == "gone"
        for guest_id in list(room.driver._records):
            await room.driver.remove(guest_id)
        assert not room.driver.parts.slots.user_namespace(slot).exists() or slot in room.driver.parts.slots._ready
        assert await room.driver.survey() == []

    docker(story)


def test_volumes_are_mapped_filled_from_the_image_and_given_back() -> None:
    async def story(room: DockerRoom) -> None:
        volume = await room.volume()
        mounts = (Mount("/etc", "volume", volume_id=volume),)
        said = await room.says(room.sh("echo more >> /etc/group; echo new > /etc/new; ls -ln /etc/new", mounts=mounts))
        assert " 0        0 " in said
        folder = room.folders.root / volume
        assert "root:x:0:0" in (folder / "passwd").read_text(), "an empty volume gets what the image has"
        assert (folder / "new").stat().st_uid == 0, "volumes bear the guest's own ids"
        await eventually(lambda: not room.folders.users, "it is given back")

        second = (Mount("/data", "volume", volume_id=volume), Mount("/ro", "volume", volume_id=volume, read_only=True))
        said = await room.says(room.sh("cat /data/new; touch /ro/x || echo refused; ls -n /data/new", mounts=second))
        assert said.startswith("new\n")
        assert "refused" in said
        part = (Mount("/sub", "volume", volume_id=volume, subpath="deep/inside"),)
        (folder / "deep" / "inside").mkdir(parents=True)
        (folder / "deep" / "inside" / "x").write_text("x")
        (folder / "out").symlink_to("/")
        assert await room.says(room.container("ls", "/sub", mounts=part)) == "x\n"
        escape = (Mount("/sub", "volume", volume_id=volume, subpath="out/etc/shadow"),)
        assert (await room.driver.apply(room.container("ls", "/sub", mounts=escape))).state == "error"
        missing = (Mount("/data", "volume", volume_id="not-there"),)
        assert (await room.driver.apply(room.sh("true", mounts=missing))).fault == "get not-there: no such volume"
        mine = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(room.config.state) in line]
        assert not [line for line in mine if "/volumes/" in line], "nothing stays mounted for them"
        for guest_id in list(room.driver._records):
            assert (await room.driver.remove(guest_id)).state == "gone"
        assert not room.folders.users

    docker(story)


def test_the_host_is_not_handed_out_unless_its_root_said_so() -> None:
    async def story(room: DockerRoom) -> None:
        host_file = room.folders.root / "of-the-host"
        host_file.parent.mkdir(exist_ok=True)
        host_file.write_text("secret\n")
        host_file.chmod(0o600)
        asked = {
            "privileged": {"privileged": True},
            "host_network": {"network": "host"},
            "host_pid": {"host_pid": True},
            "devices": {"devices": ("/dev/zero:/dev/mine:rw",)},
            "host_paths": {"mounts": (Mount("/h", "host", host_path=str(host_file)),)},
            "seccomp_unconfined": {"seccomp": "unconfined"},
        }
        show = "ls /sys/class/net | tr '\\n' ' '; head -c 3 /dev/mine | wc -c; cat /h; ps | wc -l; "
        show += "grep Seccomp: /proc/self/status; mount -t tmpfs x /mnt && echo mounts"
        for name, config in asked.items():
            refused = await room.driver.apply(room.sh(show, **config))
            assert f"this host does not allow project p: {name} " in refused.fault, refused
        table = room.config.state / NAME
        table.write_text(json.dumps({"p": list(asked)}))
        table.chmod(0o666)
        assert "root's own file" in (await room.driver.apply(room.sh(show, privileged=True))).fault
        table.chmod(0o600)
        found = {name: await room.says(room.sh(f"mkdir -p /mnt; ({show}) 2>&1", **config)) for name, config in asked.items()}
        table.unlink()
        assert "Seccomp:\t0" in found["privileged"]
        assert "mounts" in found["privileged"]
        assert set(os.listdir("/sys/class/net")) <= set(found["host_network"].split("\n")[0].split()) | {"bonding_masters"}
        assert int(re.findall(r"^(\d+)$", found["host_pid"], re.M)[-1]) > 10
        assert re.search(r"^lo 3$|lo 3\n", found["devices"]), found["devices"]
        assert "secret" in found["host_paths"]
        assert "Seccomp:\t0" in found["seccomp_unconfined"]

    docker(story)


def test_an_init_reaps_and_forwards() -> None:
    async def story(room: DockerRoom) -> None:
        guest = room.sh("trap 'echo told; exit 5' TERM; (sleep 0.05 &); echo up; while :; do sleep 0.02; done", init=True)
        await room.driver.apply(guest)
        await room.console_shows(guest, "up")
        comm = Path(f"/proc/{room.pid(guest)}/comm").read_text()
        assert comm.startswith(("docker-init", "tini", "catatonit"))
        stopped = await room.driver.apply(again(guest, power="stopped"))
        assert stopped.exit_code == 5
        assert b"told" in await room.driver.console(guest.id)

    docker(story)


def test_limits_in_dockers_units_and_their_update() -> None:
    async def story(room: DockerRoom) -> None:
        limits = Limits(
            1, 64, 1, memory_bytes=40_000_000 // 4096 * 4096, memory_swap_bytes=-1, cpu_shares=300, cpu_quota_us=20_000
        )
        guest = room.sh("sleep 600", changes={"limits": msgspec.structs.replace(limits, cpuset_cpus="0", blkio_weight=300)})
        seen = await room.driver.apply(guest)
        assert (seen.state, seen.fault) == ("running", "")

        def value(*names: str) -> str:
            found = [path for name in names for path in cgroups(f"nacre-{room.config.cloud_id}/{guest.id}/{name}")]
            return found[0].read_text().strip()

        assert value("memory.limit_in_bytes", "memory.max") == str(limits.memory_bytes)
        assert value("cpuset.cpus") == "0"
        assert value("cpu.cfs_quota_us", "cpu.max").startswith("20000")
        more = Limits(1, 64, 1, memory_bytes=1 << 28, memory_swap_bytes=1 << 29, cpu_quota_us=50_000, pids=77)
        updated = await room.driver.apply(again(guest, limits=more))
        assert (updated.state, updated.fault, updated.generation) == ("running", "", 2)
        assert value("memory.limit_in_bytes", "memory.max") == str(1 << 28)
        assert value("pids.max") == "77"
        less = msgspec.structs.replace(more, memory_bytes=1 << 25, memory_swap_bytes=1 << 25)
        updated = await room.driver.apply(again(guest, generation=2, limits=less))
        assert (updated.state, updated.fault) == ("running", "")
        assert value("memory.limit_in_bytes", "memory.max") == str(1 << 25)

    docker(story)
