"""The hub's side of dial-backs."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from nacre.gateway.hub import HOST_ID, Waiting, _answer_to


async def _asked(host_id: str | None) -> bool:
    """Whether a dial-back that was asked of host `a` is taken from that host; None is this machine's node."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    request = make_mocked_request("POST", "/streams/key", match_info={"stream": "key"})
    if host_id is not None:
        request[HOST_ID] = host_id
    return _answer_to({"key": Waiting("a", answer)}, request) is answer


def test_a_dial_is_answered_by_the_host_that_was_asked() -> None:
    assert asyncio.run(_asked("a"))
    assert asyncio.run(_asked(None))
    with pytest.raises(web.HTTPNotFound):
        asyncio.run(_asked("b"))
