"""Runs a file of `openstack` commands, one a line, each as a shell of its own would, and prints those that did not end as the file says.

    openstack_commands.py FILE

COMMAND                 must end well
until WORD: COMMAND     again, until it prints just that (a server's state)
refused TEXT: COMMAND   must fail, and say so with that text
"""

import contextlib
import io
import re
import shlex
import sys
import time
from pathlib import Path

from openstackclient.shell import OpenStackShell

LINE = re.compile(r"(?:(until|refused) (.+?): )?(.+)")
WAIT_S = 120.0


def run(command: str) -> tuple[int, str, str]:
    """A command's exit code, and what it says. A global option may stand anywhere in it, as for the program."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        shell = OpenStackShell()
        shell.stdout, shell.stderr = out, err
        try:
            code = shell.run(shlex.split(command))
        except SystemExit as left:
            code = int(left.code or 0)
    return code, out.getvalue().strip(), err.getvalue().strip()


def until(word: str, command: str) -> str:
    end, said = time.monotonic() + WAIT_S, ""
    while said != word:
        if time.monotonic() > end:
            return f"{command}: waited {WAIT_S:.0f} s for {word}, saw {said}"
        time.sleep(0.1)
        _, said, _ = run(command)
    return ""


def fault(line: str) -> str:
    """What is wrong with a line; empty when nothing is."""
    match = LINE.fullmatch(line)
    assert match is not None, line
    kind, text, command = match.groups()
    if kind == "until":
        return until(text, command)
    code, said, complaint = run(command)
    if kind == "refused":
        return "" if code and text in complaint else f"{command}: exit {code}, not refused with {text}: {said} {complaint}"
    return f"{command}: exit {code}: {complaint}" if code else ""


def main(path: Path) -> int:
    faults = [found for line in path.read_text().splitlines() if line and not line.startswith("#") and (found := fault(line))]
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
