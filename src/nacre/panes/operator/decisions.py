"""Why a server is where it is."""

from nacre.cloud.compute import decisions
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.times import seconds


async def list_decisions(call: Call) -> Reply:
    """The latest first. Hosts' names and books are for admins; an owner sees the counts, and hosts as `hostId` has them."""
    whole = call.context.is_admin
    found = await call.read(decisions.of_server, call.path["server"], whole=whole)
    return Reply({"decisions": [{**each, "created_at": seconds(each["created_at"])} for each in found]})


ROUTES: tuple[Route, ...] = (
    Route("GET", "/nacre/v1/servers/{server}/decisions", list_decisions, "nacre:explain", "Explain where a server was placed"),
)
