"""Docker's default seccomp profile, compiled once to the kernel's filter language (seccomp(2), classic BPF).

Stated as what is refused, over all system calls that the host's libseccomp names: a number that it does not name answers
ENOSYS, so a call that is newer than this table is closed, and the C library falls back. The x32 variant is closed as well.
"""

import base64
import ctypes
import functools
import platform
import struct
from collections.abc import Iterable

ERRNO_PERM, ERRNO_NOSYS = 1, 38
NUMBERS_MAX = 512
"""No architecture here numbers its calls higher."""
PROFILES_MAX = 64
"""How many are kept: one for each set of capabilities that matters here."""

# What Docker refuses to a container without CAP_SYS_ADMIN and its like (docs.docker.com/engine/security/seccomp).
_REFUSED = (
    # Keys of the kernel, tracing and profiling, io_uring, faults handled by user space.
    "add_key keyctl request_key bpf perf_event_open lookup_dcookie userfaultfd kcmp pidfd_getfd process_madvise "
    "io_uring_enter io_uring_register io_uring_setup fanotify_init open_by_handle_at "
    # Mounts and namespaces.
    "mount umount umount2 pivot_root fsconfig fsmount fsopen fspick mount_setattr move_mount open_tree setns unshare "
    "setdomainname sethostname quotactl quotactl_fd listmount statmount "
    # The machine itself: modules, time, swap, power, accounting, hardware ports.
    "acct create_module delete_module finit_module init_module query_module get_kernel_syms kexec_load kexec_file_load "
    "clock_settime clock_settime64 settimeofday stime swapon swapoff reboot syslog vhangup ioperm iopl "
    # Memory of several nodes.
    "get_mempolicy set_mempolicy set_mempolicy_home_node mbind migrate_pages move_pages "
    # Old ones that nothing needs.
    "_sysctl afs_syscall bdflush break ftime getpmsg gtty idle lock mpx nfsservctl nice oldfstat oldlstat oldolduname "
    "oldstat olduname prof profil putpmsg readdir security sgetmask ssetmask sigaction signal sigpending sigsuspend stty "
    "sysfs tuxcall ulimit uselib ustat vm86 vm86old vserver"
)
REFUSED = frozenset(_REFUSED.split())
UNLOCKED = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount "
    "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
"""capability -> the calls that Docker's profile gives with it. What they do is still judged within the guest's user namespace."""
_CLONE_NEW_ANY = 0x7E020000
_AF_VSOCK = 40
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_BTRFS_SIZES = (0x5000940E, 0x50009418, 0x50009401, 0x50009417)
"""ioctls of btrfs that make a subvolume or a snapshot (linux/btrfs.h), which anyone may: it would not count in its volume's size."""

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _JUMP_EQUAL, _JUMP_AT_LEAST = 0x05, 0x15, 0x35
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT, _SECOND_ARGUMENT_AT = 0, 4, 16, 24
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

# The audit architectures (linux/audit.h) that a machine runs: its own and the 32-bit one.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0x40000003), "aarch64": (0xC00000B7, 0x40000028)}

Code = list[tuple[int, int, int, int]]


def _give(action: int) -> Code:
    return [(_RETURN, 0, 0, action)]


def _special() -> dict[str, Code]:
    """The calls that are judged by an argument. The accumulator holds the number on entry."""
    load = (_LOAD, 0, 0, _ARGUMENT_AT)
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | ERRNO_PERM)
    persona: Code = [load]
    for index, value in enumerate(_PERSONALITIES):
        persona.append((_JUMP_EQUAL, len(_PERSONALITIES) - index, 0, value))
    # The kernel takes an ioctl's request as 32 bits.
    control: Code = [(_LOAD, 0, 0, _SECOND_ARGUMENT_AT)]
    for index, value in enumerate(_BTRFS_SIZES):
        control.append((_JUMP_EQUAL, len(_BTRFS_SIZES) - index, 0, value))
    return {
        "clone": [load, (_AND, 0, 0, _CLONE_NEW_ANY), (_JUMP_EQUAL, 0, 1, 0), allow, refuse],
        # ENOSYS lets the C library fall back to clone, whose flags can be looked at.
        "clone3": _give(_ERRNO | ERRNO_NOSYS),
        "socket": [load, (_JUMP_EQUAL, 0, 1, _AF_VSOCK), refuse, allow],
        "personality": [*persona, refuse, allow],
        "ioctl": [*control, allow, refuse],
    }


def _names(library: ctypes.CDLL, architecture: int) -> list[str | None]:
    """The name of each number, by libseccomp's own tables."""
    resolve = library.seccomp_syscall_resolve_num_arch
    resolve.restype = ctypes.c_void_p
    release = ctypes.CDLL(None).free
    found: list[str | None] = []
    for number in range(NUMBERS_MAX):
        pointer = resolve(ctypes.c_uint32(architecture), number)
        found.append(ctypes.string_at(pointer).decode() if pointer else None)
        if pointer:
            release(ctypes.c_void_p(pointer))
    return found


def _ranges(names: list[str | None], unlocked: frozenset[str]) -> list[tuple[int, Code]]:
    """The verdicts as (first number, code), each good up to the next one's first number."""
    special = _special()
    found: list[tuple[int, Code]] = []
    for number, name in enumerate(names):
        if name is None:
            code = _give(_ERRNO | ERRNO_NOSYS)
        elif name in unlocked:
            code = _give(_ALLOW)
        elif name in special:
            code = special[name]
        else:
            code = _give(_ERRNO | ERRNO_PERM if name in REFUSED else _ALLOW)
        if not found or found[-1][1] != code:
            found.append((number, code))
    return [*found, (len(names), _give(_ERRNO | ERRNO_NOSYS))]


def _search(ranges: list[tuple[int, Code]]) -> Code:
    """A binary search over the ranges: the kernel runs it at every call, and once for each number when it is loaded."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    # A conditional jump reaches 255 instructions, an unconditional one any distance.
    return [(_JUMP_AT_LEAST, 0, 1, ranges[middle][0]), (_JUMP, 0, 0, len(low)), *low, *high]


def compile_profile(unlocked: frozenset[str] = frozenset()) -> bytes:
    """The filter as an array of struct sock_filter. Raises OSError where libseccomp is missing or the machine is unknown."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(f"no seccomp profile for this machine's architecture ({machine})")
    library = ctypes.CDLL("libseccomp.so.2")
    program: Code = [(_LOAD, 0, 0, _ARCHITECTURE_AT)]
    for architecture in _ARCHITECTURES[machine]:
        body: Code = [(_LOAD, 0, 0, _NUMBER_AT), *_search(_ranges(_names(library, architecture), unlocked))]
        program += [(_JUMP_EQUAL, 1, 0, architecture), (_JUMP, 0, 0, len(body)), *body]
    program += _give(_KILL)
    return b"".join(struct.pack("=HBBI", code, yes, no, value) for code, yes, no, value in program)


def annotation(capabilities: Iterable[str] = ()) -> str:
    """The profile for a process with these capabilities, as crun's annotation run.oci.seccomp_bpf_data takes it."""
    return _annotation(frozenset(name for capability in capabilities for name in UNLOCKED.get(capability, "").split()))


@functools.lru_cache(PROFILES_MAX)
def _annotation(unlocked: frozenset[str]) -> str:
    return base64.b64encode(compile_profile(unlocked)).decode()
