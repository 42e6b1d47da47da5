"""The compiled seccomp profile, run in a small interpreter of the kernel's filter language."""

import ctypes
import struct

import pytest

from nacre.node.runtimes.containers import seccomp

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PERM, NOSYS, KILL = ERRNO | 1, ERRNO | 38, 0x80000000


@pytest.fixture(scope="module")
def program() -> list[tuple[int, int, int, int]]:
    code = seccomp.compile_profile()
    return list(struct.iter_unpack("=HBBI", code))


def number(name: str, architecture: int = X86_64) -> int:
    library = ctypes.CDLL("libseccomp.so.2")
    return int(library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(architecture), name.encode()))


def judge(
    program: list[tuple[int, int, int, int]], nr: int, argument: int = 0, architecture: int = X86_64, second: int = 0
) -> int:
    data = struct.pack("=IIQQQ", nr, architecture, 0, argument, second) + bytes(32)
    accumulator, at = 0, 0
    for _ in range(1000):
        code, yes, no, value = program[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return value
        elif code == 0x05:
            at += value
        else:
            at += yes if (accumulator == value if code == 0x15 else accumulator >= value) else no
    raise AssertionError("the program does not end")


@pytest.mark.parametrize("name", ["read", "execve", "openat", "ptrace", "fchmodat2", "futex_waitv", "chroot", "statx"])
def test_what_programs_need_is_allowed(program: list[tuple[int, int, int, int]], name: str) -> None:
    assert judge(program, number(name)) == ALLOW


@pytest.mark.parametrize(
    "name", ["mount", "bpf", "keyctl", "unshare", "setns", "kexec_load", "io_uring_setup", "reboot", "userfaultfd"]
)
def test_what_reaches_for_the_host_is_refused(program: list[tuple[int, int, int, int]], name: str) -> None:
    assert judge(program, number(name)) == PERM


def test_arguments_decide_some_calls(program: list[tuple[int, int, int, int]]) -> None:
    assert judge(program, number("clone"), 0x11) == ALLOW
    assert judge(program, number("clone"), 0x10000000 | 0x11) == PERM, "a new user namespace"
    assert judge(program, number("clone3")) == NOSYS
    assert judge(program, number("socket"), 2) == ALLOW
    assert judge(program, number("socket"), 40) == PERM, "vsock reaches the hypervisor"
    assert [judge(program, number("personality"), value) for value in (0, 8, 0x20008, 0xFFFFFFFF, 0x40000)] == [ALLOW] * 4 + [
        PERM
    ]


def test_a_subvolume_which_a_volumes_size_would_not_count_is_refused(program: list[tuple[int, int, int, int]]) -> None:
    for made in (0x50009401, 0x5000940E, 0x50009417, 0x50009418, 0xDEAD00005000940E):
        assert judge(program, number("ioctl"), second=made) == PERM
        assert judge(program, number("ioctl", I386), second=made, architecture=I386) == PERM
    for other in (0x5401, 0x40049409, 0x4020940D, 0x540E, 0x5000940F):
        assert judge(program, number("ioctl"), second=other) == ALLOW, "a terminal, copies by reference, a subvolume's end"


def test_unknown_numbers_and_architectures_are_closed(program: list[tuple[int, int, int, int]]) -> None:
    assert judge(program, 400) == NOSYS
    assert judge(program, 100_000) == NOSYS
    assert judge(program, 0x40000000 + number("read")) == NOSYS, "x32"
    assert judge(program, number("read", I386), architecture=I386) == ALLOW
    assert judge(program, number("mount", I386), architecture=I386) == PERM
    assert judge(program, 0, architecture=0x12345678) == KILL
