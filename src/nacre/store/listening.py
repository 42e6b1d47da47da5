"""What processes over one PostgreSQL tell each other, by LISTEN and NOTIFY; and which of them serves."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg

from nacre.store.connections import CONNECT, REST_S, said

LISTEN_TURN_S = 1.0
CHANNEL = "nacre"
PAYLOAD_BYTES_MAX = 7900
"""NOTIFY takes less than 8000 bytes."""
OWNER = 0x6E616373
"""The advisory lock of the one process that serves."""
OWN_WAIT_S = 30.0
"""A process that has just died, or its machine, is noticed sooner."""

log = logging.getLogger("nacre.store")


class Listener:
    """A thread that hears what other processes announce."""

    def __init__(self, url: str, hear: Callable[[list[tuple[str, Any]] | None], None]) -> None:
        self.pid = 0
        """The backend's, by which this process knows its own announcements; 0 while nothing is heard."""
        self._url = url
        self._hear = hear
        self._ended = threading.Event()
        self._lost: Callable[[], None] | None = None
        """Set where this process is to be the one that serves."""
        self._owning = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-listener", daemon=True)
        self._thread.start()

    def own(self, lost: Callable[[], None]) -> bool:
        self._lost = lost
        return self._owning.wait(OWN_WAIT_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with psycopg.connect(self._url, **CONNECT) as conn:
                    self._listen(conn)
            except psycopg.Error as error:
                if self.pid:
                    log.warning("other processes are not heard: %s", said(error))
            self.pid = 0
            self._ended.wait(REST_S)

    def _listen(self, conn: psycopg.Connection[Any]) -> None:
        conn.execute(f"LISTEN {CHANNEL}")
        self.pid = conn.info.backend_pid
        # What was announced before is not heard of any more.
        self._hear(None)
        mine = False
        while not self._ended.is_set():
            if self._lost is not None and not mine:
                mine = self._take_ownership(conn, self._lost)
            for notice in conn.notifies(timeout=LISTEN_TURN_S):
                self._take(notice.payload)
                if self._ended.is_set():
                    return

    def _take_ownership(self, conn: psycopg.Connection[Any], lost: Callable[[], None]) -> bool:
        """The lock goes with this connection: after a lost one it may be another process's."""
        row = conn.execute(f"SELECT pg_try_advisory_lock({OWNER})").fetchone()
        mine = row is not None and bool(row[0])
        if mine:
            self._owning.set()
        elif self._owning.is_set():
            log.error("another process serves over this database now")
            lost()
        return mine

    def _take(self, payload: str) -> None:
        sender, announced = json.loads(payload)
        if sender != self.pid:
            self._hear([(topic, value) for topic, value in announced])

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


def payloads(sender: int, announced: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """The announcements in as few notifications as hold them. A value that is too long is left out: its watchers look for themselves."""
    batch: list[str] = []
    size = 0
    for topic, value in dict.fromkeys((topic, json.dumps(value)) for topic, value in announced):
        text = f"[{json.dumps(topic)},{value}]"
        if len(text) > PAYLOAD_BYTES_MAX // 2:
            text = f"[{json.dumps(topic)},null]"
        if size + len(text) > PAYLOAD_BYTES_MAX - 32:
            yield _payload(sender, batch)
            batch, size = [], 0
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield _payload(sender, batch)


def _payload(sender: int, batch: Sequence[str]) -> str:
    return f"[{sender},[{','.join(batch)}]]"
