"""What `nacre doctor` tries, and a node whose host has just joined.

Each probe does the thing in a scratch namespace and says what it saw, or raises Failed with the cause.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

TRY_S = 15.0
"""How long one try may take."""

DISK_FREE_MIN_GB = 2.0
MEMORY_MIN_MB = 512
YEAR_MIN = 2025

SYS_OPEN_TREE, SYS_MOUNT_SETATTR = 428, 442
"""Numbers of these system calls, the same on every architecture (they were added after the tables were unified)."""
OPEN_TREE_CLONE, AT_EMPTY_PATH, AT_FDCWD = 1, 0x1000, -100
MOUNT_ATTR_IDMAP = 0x00100000
CLONE_NEWUSER = 0x10000000
TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""


class Failed(Exception):
    """A probe's cause."""


def tried(*command: str, given: str | None = None) -> str:
    """A command's output. Raises Failed with its last words."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=TRY_S, check=False)
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]} did not end within {TRY_S:.0f} s") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        telling = [line for line in words if "rror" in line] or words[-1:] or [f"{command[0]} exited with {done.returncode}"]
        raise Failed(telling[0])
    return done.stdout.strip()


def namespaces() -> str:
    tried("unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "true")
    return "mount, pid, net, uts, ipc"


def user_namespaces() -> str:
    tried("unshare", "--user", "--map-root-user", "true")
    limit = int(Path("/proc/sys/user/max_user_namespaces").read_text())
    if limit < 1024:
        raise Failed(f"user.max_user_namespaces is {limit}; each server takes one")
    return f"up to {limit}"


def overlay(directory: Path) -> str:
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        script = (
            'cd "$1" && mkdir l u w m && mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m && echo x >m/x && umount m'
        )
        tried("unshare", "--mount", "sh", "-c", script, "sh", scratch)
    return f"on the file system of {directory}"


def idmapped_mounts(directory: Path) -> str:
    """mount_setattr(2) with MOUNT_ATTR_IDMAP on a clone of a directory."""
    libc = ctypes.CDLL(None, use_errno=True)
    user_namespace, pid = held_user_namespace(libc)
    tree = -1
    try:
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            tree = libc.syscall(SYS_OPEN_TREE, AT_FDCWD, scratch.encode(), OPEN_TREE_CLONE | os.O_CLOEXEC)
            if tree < 0:
                raise Failed(f"open_tree: {os.strerror(ctypes.get_errno())}")
            attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
            if libc.syscall(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, ctypes.sizeof(attributes)) < 0:
                raise Failed(f"mount_setattr: {os.strerror(ctypes.get_errno())}")
    finally:
        if tree >= 0:
            os.close(tree)
        os.close(user_namespace)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return f"on the file system of {directory}"


def held_user_namespace(libc: ctypes.CDLL) -> tuple[int, int]:
    """A descriptor of a new user namespace with a mapping, and the pid of the child that made it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = libc.unshare(CLONE_NEWUSER)
        os.write(write, b"0" if code == 0 else b"1")
        signal.pause()
        os._exit(0)
    os.close(write)
    answer = os.read(read, 1)
    os.close(read)
    try:
        if answer != b"0":
            raise Failed("unshare(CLONE_NEWUSER) was refused")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 100000 65536\n")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC), pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def in_network(script: str) -> str:
    return tried("unshare", "--net", "--mount", "sh", "-ec", script)


def links() -> str:
    in_network(
        "ip link add br0 type bridge; ip link add veth0 type veth peer name veth1; ip link set veth0 master br0; "
        "ip link add vx type vxlan id 1 dstport 4789 nolearning; ip link set vx master br0; ip link set br0 up"
    )
    return "veth, bridge, vxlan"


def bridge_netfilter() -> str:
    in_network("mount -t proc proc /proc; ip link add br0 type bridge; echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
    return "per namespace"


RULES = """
table inet t {
  set members { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }
  map ports { type ipv4_addr : verdict; }
  chain f {
    type filter hook forward priority 0
    ct state vmap { established : accept, invalid : drop }
    ip daddr vmap @ports
    ip saddr @members accept
  }
}
table ip n {
  chain p {
    type nat hook prerouting priority -100
    ip daddr 192.0.2.7 dnat to 10.0.0.7
  }
  chain s {
    type nat hook postrouting priority 100
    ip saddr 10.0.0.0/8 masquerade
  }
}
table bridge g {
  chain f {
    type filter hook forward priority 0
    ether type != { ip, ip6, arp } drop
  }
}
"""


def nftables() -> str:
    tried("unshare", "--net", "nft", "-f", "-", given=RULES)
    return "stateful filter, maps, NAT, bridge guard"


def cgroups() -> str:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        version, present = "v2", set((root / "cgroup.controllers").read_text().split())
    else:
        hybrid = (root / "unified" / "cgroup.controllers").exists()
        version, present = "v1, hybrid" if hybrid else "v1", {path.name for path in root.iterdir() if path.is_dir()}
    absent = {"cpu", "memory", "pids"} - present
    if absent:
        raise Failed(f"cgroup {version} without {', '.join(sorted(absent))}")
    return version


def seccomp() -> str:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    if not actions.exists():
        raise Failed("this kernel has no seccomp filters")
    return "filters"


def container_runtime() -> str:
    return tried("crun", "--version").splitlines()[0]


def disk(directory: Path) -> str:
    free_gb = shutil.disk_usage(directory).free / 1e9
    if free_gb < DISK_FREE_MIN_GB:
        raise Failed(f"{free_gb:.1f} GB free on {directory}; at least {DISK_FREE_MIN_GB:g} GB")
    return f"{free_gb:.0f} GB free on {directory}"


def memory() -> str:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    available_mb = next(int(fields[1]) for fields in lines if fields[0] == "MemAvailable:") // 1024
    if available_mb < MEMORY_MIN_MB:
        raise Failed(f"{available_mb} MB available; at least {MEMORY_MIN_MB} MB")
    return f"{available_mb} MB available"


def clock() -> str:
    """Tokens and certificates carry wall time."""
    if time.gmtime().tm_year < YEAR_MIN:
        raise Failed(f"the clock says {time.strftime('%Y-%m-%d')}")
    timex = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None).adjtimex(timex) == TIME_ERROR:
        return "plausible, but not synchronised by NTP"
    return "synchronised"


def kvm() -> str:
    if not Path("/dev/kvm").exists():
        raise Failed("there is no /dev/kvm")
    return "/dev/kvm exists"
