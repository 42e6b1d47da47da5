"""How a helper process begins and ends: its request comes as JSON by a descriptor, its trouble goes to stderr as JSON {kind, message}."""

import importlib
import json
import os
import sys

NICENESS = 5
"""Guests and the node come first."""
REQUEST_BYTES_MAX = 1 << 20


class Trouble(Exception):
    """What cannot be done, as the client is to hear it. `kind` as nacre.protocol.streams.Failure has it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


def run(module: str, fd: int) -> None:
    """Do the request that the descriptor holds; ends the process."""
    os.nice(NICENESS)
    os.umask(0)
    os.lseek(fd, 0, os.SEEK_SET)
    request = json.loads(os.read(fd, REQUEST_BYTES_MAX))
    os.close(fd)
    try:
        importlib.import_module(module).main(request)
        sys.stdout.flush()
    except Trouble as error:
        _fail(error.kind, error.message)
    except BrokenPipeError:
        os._exit(1)
    except (OSError, ValueError, RecursionError) as error:
        _fail("unavailable", f"{type(error).__name__}: {error}")


def _fail(kind: str, message: str) -> None:
    os.write(2, f"\n{json.dumps({'kind': kind, 'message': message})}\n".encode())
    os._exit(1)
