"""What processes over one PostgreSQL tell each other, by LISTEN and NOTIFY; and which of them leads."""

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
LEADER = 0x6E616373
"""The advisory lock of the one process that leads. It goes with the connection that listens."""
SILENCE_MAX = "10s"
"""A process that was stopped says nothing for so long, and its connection is ended: another leads then (idle_session_timeout,
PostgreSQL 14 and later; earlier ones wait until the process or its machine is gone)."""
SILENCE_SINCE = 140000

log = logging.getLogger("nacre.store")


class Listener:
    """A thread that hears what other processes announce."""

    def __init__(self, url: str, hear: Callable[[list[tuple[str, Any]] | None], None]) -> None:
        self.pid = 0
        """The backend's, by which this process knows its own announcements; 0 while nothing is heard."""
        self._url = url
        self._hear = hear
        self._ended = threading.Event()
        self._changed: Callable[[bool], None] | None = None
        """Set where this process is to lead as soon as no other one does."""
        self._leads = False
        self._thread = threading.Thread(target=self._run, name="store-listener", daemon=True)
        self._thread.start()

    def lead(self, changed: Callable[[bool], None]) -> None:
        self._changed = changed

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with psycopg.connect(self._url, **CONNECT) as conn:
                    self._listen(conn)
            except psycopg.Error as error:
                if self.pid:
                    log.warning("other processes are not heard: %s", said(error))
            self.pid = 0
            self._leads_now(False)
            self._ended.wait(REST_S)

    def _listen(self, conn: psycopg.Connection[Any]) -> None:
        if conn.info.server_version >= SILENCE_SINCE:
            conn.execute(f"SET idle_session_timeout = '{SILENCE_MAX}'")
        conn.execute(f"LISTEN {CHANNEL}")
        self.pid = conn.info.backend_pid
        # What was announced before is not heard of any more.
        self._hear(None)
        while not self._ended.is_set():
            if self._changed is not None and not self._leads:
                row = conn.execute(f"SELECT pg_try_advisory_lock({LEADER})").fetchone()
                self._leads_now(row is not None and bool(row[0]))
            else:
                # Also tells whether the connection, and with it the lock, is still there.
                conn.execute("SELECT 1")
            for notice in conn.notifies(timeout=LISTEN_TURN_S):
                self._take(notice.payload)
                if self._ended.is_set():
                    return

    def _leads_now(self, leads: bool) -> None:
        if leads != self._leads and self._changed is not None:
            self._leads = leads
            log.info("this process leads" if leads else "this process does not lead any more")
            self._changed(leads)

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
