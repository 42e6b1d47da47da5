"""The engine itself: ping, version."""

import platform

from nacre import __version__
from nacre.panes.docker.dialect import API_VERSION, API_VERSION_MIN, ENGINE_VERSION
from nacre.panes.edge import Call, Reply, Route

PING_HEADERS = {
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}


async def ping(call: Call) -> Reply:
    body = b"" if call.request.method == "HEAD" else b"OK"
    return Reply(body, headers=PING_HEADERS, content_type="text/plain")


async def version(call: Call) -> Reply:
    kernel = platform.release()
    details = {
        "ApiVersion": API_VERSION,
        "MinAPIVersion": API_VERSION_MIN,
        "Os": "linux",
        "Arch": "amd64",
        "KernelVersion": kernel,
    }
    return Reply(
        {
            "Platform": {"Name": f"Nacre {__version__}"},
            "Components": [{"Name": "Engine", "Version": ENGINE_VERSION, "Details": details}],
            "Version": ENGINE_VERSION,
            **details,
        }
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/_ping", ping, None, "Ping"),
    Route("HEAD", "/_ping", ping, None, "Ping, headers only"),
    Route("GET", "/version", version, "docker:system", "Show the version"),
)
