"""Work for a client that may hang up before it is done."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from nacre.panes.edge import Call

T = TypeVar("T")

LOOK_S = 5.0
"""How often it is looked whether the client is still there."""


async def unless_gone(call: Call, work: Coroutine[Any, Any, T]) -> T | None:
    """The work's result; None, and the work ended, when the client hangs up first."""
    transport = call.request.transport
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait((task,), timeout=LOOK_S)
            if not task.done() and (transport is None or transport.is_closing()):
                return None
        return task.result()
    finally:
        task.cancel()
