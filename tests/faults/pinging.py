"""Pings between guests while something is done to their cloud."""

import re
import signal
import subprocess


class Pinging:
    """Pings between two guests, until it is asked what it lost."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [*command[:-1], "ping", "-n", "-i", "0.1", command[-1]], stdout=subprocess.PIPE, text=True
        )

    def lost(self) -> int:
        """How many packets found no answer, one aside that may be on its way."""
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate(timeout=60)[0]
        found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert found, said
        assert int(found[1]) > 5, said
        return max(0, int(found[1]) - int(found[2]) - 1)
