"""The filter of containers, loaded into a process and tried."""

import errno
import json
import subprocess
import sys

import pytest

from nacre.node.runtimes.containers.seccomp import compile_profile

pytestmark = pytest.mark.root

LOAD = """
import ctypes, fcntl, json, sys
code = sys.stdin.buffer.read()
libc = ctypes.CDLL(None, use_errno=True)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
program = Program(len(code) // 8, code)
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
found = {}
with open("/dev/null") as file:
    for request in json.loads(sys.argv[1]):
        try:
            fcntl.ioctl(file, request)
        except OSError as error:
            found[request] = error.errno
print(json.dumps(found))
"""


def test_a_guest_makes_no_subvolumes_in_its_volume() -> None:
    """They would not count in the volume's size: each subvolume has an account of its own."""
    refused, allowed = (0x5000940E, 0x50009418, 0x50009401, 0x50009417), (0x5401, 0x5000940F)
    argv = [sys.executable, "-c", LOAD, json.dumps([*refused, *allowed])]
    done = subprocess.run(argv, input=compile_profile(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found == {str(one): errno.EPERM for one in refused} | {str(one): errno.ENOTTY for one in allowed}
