"""GET /system/df: what the project's things take."""

from nacre.cloud.errors import Invalid
from nacre.cloud.image import inventory
from nacre.panes.docker import containers, images, sizes, volumes
from nacre.panes.docker.dialect import minor_of
from nacre.panes.edge import Call, Reply, Route

KINDS = ("container", "image", "volume", "build-cache")


async def disk_usage(call: Call) -> Reply:
    """`type` may be given several times: only these kinds then."""
    kinds = call.query.getall("type", list(KINDS))
    for kind in kinds:
        if kind not in KINDS:
            raise Invalid(f"unknown object type: {kind}", field="type")
    shown: dict[str, object] = {}
    if "image" in kinds:
        found = [images.summary(entry, minor_of(call.request)) for entry in await call.read(inventory.entries)]
        shown |= {"Images": found, "LayersSize": sum(max(0, each["Size"]) for each in found)}
    if "container" in kinds:
        shown["Containers"] = await sizes.add(call, await call.read(containers.summaries))
    if "volume" in kinds:
        shown["Volumes"] = await volumes.disk_usage(call)
    if "build-cache" in kinds:
        shown["BuildCache"] = []
    return Reply(shown)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/system/df", disk_usage, "docker:read", "Show what images, containers and volumes take"),
)
