"""Images as Docker shows them: list, inspect, history, tag, remove, prune."""

import re
from typing import Any

from nacre.cloud.errors import Invalid
from nacre.cloud.image import data, inventory
from nacre.cloud.image.inventory import Entry, Removed
from nacre.cloud.image.references import Reference
from nacre.panes.docker import commit, filters, transfers
from nacre.panes.docker.dialect import minor_of
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.times import micros
from nacre.panes.edge.times import parse as parse_time
from nacre.store.schema import now

LIST_FILTERS = ("before", "since", "until", "dangling", "label", "reference", "node")
PRUNE_FILTERS = ("dangling", "label", "label!", "until")
NO_NAME = "<none>:<none>"
_TRUE = frozenset({"1", "true", "True", "TRUE", "t", "T"})


def flag(call: Call, name: str) -> bool:
    """As Docker reads a boolean: anything but nothing, 0, no, false and none."""
    return call.query.get(name, "").strip().lower() not in ("", "0", "no", "false", "none")


def reference_filter(patterns: list[str], name: Reference) -> bool:
    """Whether one of the patterns (path.Match of Go) fits the name, with or without its tag."""
    return any(_fits(pattern, text) for pattern in patterns for text in (name.repository, f"{name.repository}:{name.tag}"))


def _fits(pattern: str, text: str) -> bool:
    parts = {"*": "[^/]*", "?": "[^/]"}
    expression = "".join(
        parts.get(part, part if part.startswith("[") else re.escape(part)) for part in re.split(r"([*?]|\[[^]]+\])", pattern)
    )
    try:
        return re.fullmatch(expression, text) is not None
    except re.error:
        raise Invalid(f"syntax error in pattern: {pattern}") from None


def created_at(entry: Entry) -> float:
    """When the image was made, as its config says, else when it came here."""
    text = entry.config.get("created")
    if isinstance(text, str):
        try:
            return parse_time(re.sub(r"\.(\d{1,6})\d*", r".\1", text), "created")
        except Invalid:
            pass
    return float(entry.row["created_at"])


async def listing(call: Call) -> Reply:
    wanted = filters.parse(call, LIST_FILTERS)
    if "filter" in call.query:  # Before API 1.28 a name was asked for so.
        wanted.setdefault("reference", []).append(call.query["filter"])
    found = await call.read(inventory.entries)
    chosen = await _chosen(call, found, wanted)
    show_all = flag(call, "all")
    parents = {entry.row["parent"] for entry in found}
    if not show_all and "dangling" not in wanted:
        chosen = [entry for entry in chosen if entry.names or entry.docker_id not in parents]
    return Reply([summary(entry, minor_of(call.request)) for entry in chosen])


async def _chosen(call: Call, found: list[Entry], wanted: filters.Filters) -> list[Entry]:
    """What the filters leave. Raises Invalid, NotFound."""
    if "dangling" in wanted:
        dangling = _boolean(wanted["dangling"], "dangling")
        found = [entry for entry in found if entry.dangling == dangling]
    if "label" in wanted:
        found = [entry for entry in found if filters.labels_match(entry.labels, wanted["label"])]
    if "label!" in wanted:
        found = [entry for entry in found if not any(filters.labels_match(entry.labels, [label]) for label in wanted["label!"])]
    for name, sign in (("before", 1), ("since", -1)):
        for text in wanted.get(name, ()):
            pivot = created_at(await call.read(inventory.entry, text))
            found = [entry for entry in found if sign * (pivot - created_at(entry)) > 0]
    until = filters.until(wanted.get("until", ()), now(), _moment)
    if until is not None:
        found = [entry for entry in found if created_at(entry) < until]
    if "reference" in wanted:
        for entry in found:
            entry.names = [name for name in entry.names if reference_filter(wanted["reference"], name)]
        found = [entry for entry in found if entry.names]
    return found


def _boolean(values: list[str], name: str) -> bool:
    if len(values) == 1 and values[0] in (*_TRUE, "0", "false", "False", "FALSE", "f", "F"):
        return values[0] in _TRUE
    raise Invalid(f"invalid filter '{name}={values}'")


def _moment(text: str) -> float:
    """Seconds since the epoch, or ISO 8601."""
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text) else parse_time(text, "until")


def _tags(entry: Entry, minor: int) -> list[str]:
    return [str(name) for name in entry.names] or ([NO_NAME] if minor < 43 else [])


def summary(entry: Entry, minor: int) -> dict[str, Any]:
    size = {"VirtualSize": entry.size} if minor < 44 else {}
    return {
        "Id": entry.docker_id,
        "ParentId": entry.row["parent"] or "",
        "RepoTags": _tags(entry, minor),
        "RepoDigests": entry.digests,
        "Created": int(created_at(entry)),
        "Size": entry.size,
        **size,
        "SharedSize": -1,
        "Labels": entry.labels or None,
        "Containers": entry.containers,
    }


async def inspect(call: Call) -> Reply:
    entry = await call.read(inventory.entry, call.path["name"])
    config, minor = entry.config, minor_of(call.request)
    size = {"VirtualSize": entry.size} if minor < 44 else {}
    root = config.get("rootfs") or {}
    return Reply(
        {
            "Id": entry.docker_id,
            "RepoTags": _tags(entry, 50),
            "RepoDigests": entry.digests,
            "Parent": entry.row["parent"] or "",
            "Comment": config.get("comment") or _last(config, "comment"),
            "Created": config.get("created") or iso(entry.row["created_at"]),
            "DockerVersion": config.get("docker_version") or "",
            "Author": config.get("author") or "",
            "Config": _config(entry),
            # Left out by engines since 1.45; docker-compose 1.29 makes no container anew without it.
            "ContainerConfig": _config(entry),
            "Architecture": config.get("architecture") or "amd64",
            "Variant": config.get("variant") or "",
            "Os": config.get("os") or "linux",
            "Size": entry.size,
            **size,
            "GraphDriver": {"Data": None, "Name": "overlay2"},
            "RootFS": {"Type": "layers", "Layers": root.get("diff_ids") or []},
            "Metadata": {"LastTagTime": iso(entry.row["updated_at"])},
        }
    )


def _last(config: dict[str, Any], name: str) -> str:
    history = config.get("history")
    return str(history[-1].get(name) or "") if isinstance(history, list) and history else ""


def _config(entry: Entry) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "WorkingDir": "",
        "Env": None,
        "Cmd": None,
        "Image": "",
    }
    streams = dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"), False)
    return {**empty, **streams, "Volumes": None, "Entrypoint": None, "OnBuild": None, "Labels": None, **entry.settings}


def iso(moment: float) -> str:
    """2026-11-21T12:00:00.000000Z, as Go prints a time."""
    return micros(moment) or ""


async def history(call: Call) -> Reply:
    entry = await call.read(inventory.entry, call.path["name"])
    steps = entry.config.get("history")
    steps = steps if isinstance(steps, list) and steps else [{}]
    sizes = iter([layer.size for layer in entry.layers] or [entry.size])
    shown = []
    for step in steps:
        text = step.get("created")
        moment = created_at(entry)
        if isinstance(text, str):
            moment = created_at(Entry("", [{"config": {"created": text}, "created_at": moment}]))
        shown.append(
            {
                "Id": "<missing>",
                "Created": int(moment),
                "CreatedBy": step.get("created_by") or "",
                "Tags": None,
                "Size": 0 if step.get("empty_layer") else next(sizes, 0),
                "Comment": step.get("comment") or "",
            }
        )
    shown.reverse()
    shown[0] |= {"Id": entry.docker_id, "Tags": [str(name) for name in entry.names] or None}
    return Reply(shown)


async def tag(call: Call) -> Reply:
    target = transfers.wanted_name(call.query.get("repo", ""), call.query.get("tag", ""))
    await call.write(inventory.tag, call.path["name"], target)
    return Reply(b"", 201)


async def remove(call: Call) -> Reply:
    done = await call.write(inventory.remove, call.path["name"], flag(call, "force"))
    data.drop_all(call.cloud, done.dropped)
    return Reply(_lines(done))


def _lines(done: Removed) -> list[dict[str, str]]:
    return [*({"Untagged": name} for name in done.untagged), *({"Deleted": name} for name in done.deleted)]


async def prune(call: Call) -> Reply:
    wanted = filters.parse(call, PRUNE_FILTERS)
    wanted.setdefault("dangling", ["true"])
    if not _boolean(wanted["dangling"], "dangling"):
        del wanted["dangling"]
    found = await _chosen(call, await call.read(inventory.entries), wanted)
    parents = {entry.row["parent"] for entry in found if entry.containers or not entry.dangling}
    chosen = [entry.docker_id for entry in found if not entry.containers and entry.docker_id not in parents]
    done = await call.write(inventory.prune, chosen)
    data.drop_all(call.cloud, done.dropped)
    return Reply({"ImagesDeleted": _lines(done) or None, "SpaceReclaimed": done.bytes})


_NAME = "/images/{name:.+}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/images/json", listing, "docker:read", "List images"),
    Route("POST", "/images/create", transfers.create, "docker:images", "Pull or import an image", streams=True),
    Route("POST", "/images/load", transfers.load, "docker:images", "Load images from an archive", streams=True),
    Route("GET", "/images/get", transfers.save_many, "docker:read", "Save images to an archive"),
    Route("GET", "/images/search", transfers.search, "docker:read", "Search for images"),
    Route("POST", "/images/prune", prune, "docker:images", "Remove images that nobody uses"),
    Route("GET", _NAME + "/json", inspect, "docker:read", "Inspect an image"),
    Route("GET", _NAME + "/history", history, "docker:read", "Show how an image was made"),
    Route("GET", _NAME + "/get", transfers.save_one, "docker:read", "Save an image to an archive"),
    Route("POST", _NAME + "/push", transfers.push, "docker:images", "Push an image to a registry"),
    Route("POST", _NAME + "/tag", tag, "docker:images", "Give an image another name"),
    Route("DELETE", _NAME, remove, "docker:images", "Untag or remove an image"),
    Route("GET", "/distribution/{name:.+}/json", transfers.distribution, "docker:read", "Show what a registry has"),
    Route("POST", "/auth", transfers.auth, "docker:read", "Check credentials for a registry"),
    Route("POST", "/commit", commit.commit, "docker:images", "Make an image of a container"),
)
