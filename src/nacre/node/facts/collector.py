"""The host's facts as they are now: reads each row of the table when its time has come, and knows what changed since it was last sent."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nacre.node.facts.external import PROGRAMS_EVERY_S, ExternalFacts
from nacre.node.facts.legacy import flat
from nacre.node.facts.overload import CpuMeter
from nacre.node.facts.source import Source
from nacre.node.facts.table import FACTS, Fact

REFRESH_EVERY_S = 5.0

log = logging.getLogger("nacre.node.facts")


class Facts:
    """`given` stands for what the table would read, where a host is simulated."""

    def __init__(
        self,
        folders: Sequence[Path] = (),
        *,
        given: Mapping[str, Any] | None = None,
        source: Source | None = None,
        table: tuple[Fact, ...] = FACTS,
    ) -> None:
        self._source = source or Source()
        self._table = () if given is not None else table
        self._own = dict(given or {})
        self._external = ExternalFacts(folders)
        self._meter = None if given is not None else CpuMeter()
        self._due_s: dict[str, float] = {}
        self._now: dict[str, Any] = {}
        self._sent: dict[str, Any] = {}
        self.refresh()

    def all(self) -> dict[str, Any]:
        """Everything, to be sent with a Hello; from here on `changes` counts."""
        self._sent = self._now
        return self._now

    def has(self, name: str) -> bool:
        return name in self._now

    def changes(self) -> dict[str, Any]:
        """What is different from what was sent last; None stands for a fact that is gone."""
        now, sent = self._now, self._sent
        if now is sent:
            return {}
        changed = {name: value for name, value in now.items() if name not in sent or sent[name] != value}
        changed |= dict.fromkeys(sent.keys() - now.keys())
        self._sent = now
        return changed

    async def run(self) -> None:
        """Refresh for ever. In a thread: a file of the kernel's may take its time, and beats must not wait for it."""
        programs: asyncio.Task[None] | None = None
        programs_at_s = 0.0
        try:
            while True:
                if time.monotonic() >= programs_at_s and (programs is None or programs.done()):
                    programs = asyncio.create_task(self._external.run_programs())
                    programs_at_s = time.monotonic() + PROGRAMS_EVERY_S
                    await asyncio.wait([programs], timeout=REFRESH_EVERY_S)
                await asyncio.to_thread(self.refresh)
                await asyncio.sleep(REFRESH_EVERY_S)
        finally:
            if programs is not None:
                programs.cancel()

    def refresh(self) -> None:
        """Read what is due. A row that fails keeps what it had."""
        now_s = time.monotonic()
        for fact in self._table:
            due_s = self._due_s.get(fact.name)
            if due_s is None or (fact.every_s and due_s <= now_s):
                self._due_s[fact.name] = now_s + fact.every_s * 0.9
                self._read(fact)
        if self._meter is not None:
            self._own["system_overload_10min"] = self._meter.read(self._source, now_s)
        external = self._external.read()
        structured = {**self._own, **external}
        self._now = {**self._own, **flat(structured), **external} if self._table else structured

    def _read(self, fact: Fact) -> None:
        try:
            value = fact.read(self._source)
        except (OSError, ValueError, LookupError) as error:
            log.warning("the fact %s could not be read: %s", fact.name, error)
            return
        if value is None:
            self._own.pop(fact.name, None)
        else:
            self._own[fact.name] = value
