"""os-instance-actions: what was asked of a server, and the timeline of each request."""

from nacre.cloud.collection import Row
from nacre.cloud.compute import actions
from nacre.cloud.compute.rules import host_hash
from nacre.cloud.errors import Invalid
from nacre.panes.edge import Call, Reply, times
from nacre.panes.openstack.compute.dialect import allowed, limit_of, next_links, unexpected
from nacre.panes.openstack.compute.servers import names_of
from nacre.store import Page

PAGED = 58
QUERY = frozenset({"limit", "marker", "changes-since", "changes-before"})


def _moment(moment: float | None) -> str | None:
    return times.micros(moment, "")


def _action(call: Call, row: Row) -> Row:
    shown = {
        "action": row["action"],
        "instance_uuid": row["server_id"],
        "request_id": row["request_id"],
        "user_id": row["user_id"],
        "project_id": row["project_id"],
        "start_time": _moment(row["start_time"]),
        "message": row["message"],
    }
    if call.at_least(PAGED):
        shown["updated_at"] = _moment(row["updated_at"])
    return shown


def _event(call: Call, project_id: str, event: Row, is_admin: bool, names: dict[str, str]) -> Row:
    shown = {
        "event": event["event"],
        "start_time": _moment(event["start_time"]),
        "finish_time": _moment(event["finish_time"]),
        "result": event["result"],
    }
    if is_admin or not call.at_least(51):
        shown["traceback"] = event["details"]
    if call.at_least(62):
        shown["hostId"] = host_hash(project_id, event["host_id"])
        if is_admin:
            shown["host"] = names.get(event["host_id"] or "", "")
    if call.at_least(84):
        shown["details"] = event["details"]
    return shown


async def index(call: Call) -> Reply:
    rows = await call.read(actions.list_actions, call.path["server_id"])
    if not call.at_least(PAGED):
        return Reply({"instanceActions": [_action(call, row) for row in rows]})
    page = _page(call, rows)
    body: Row = {"instanceActions": [_action(call, row) for row in page.rows]}
    following = next_links(call, page, "request_id")
    if following:
        body["links"] = following
    return Reply(body)


def _page(call: Call, rows: list[Row]) -> Page:
    query = call.query
    for name in query:
        if name not in QUERY or (name == "changes-before" and not call.at_least(66)):
            raise unexpected(name)
    since = times.parse(query["changes-since"], "changes-since") if "changes-since" in query else None
    before = times.parse(query["changes-before"], "changes-before") if "changes-before" in query else None
    if since is not None and before is not None and since > before:
        raise Invalid("The value of changes-since must be less than or equal to changes-before.", field="changes-since")
    rows = [
        row for row in rows if (since is None or row["updated_at"] >= since) and (before is None or row["updated_at"] <= before)
    ]
    if "marker" in query:
        idents = [row["request_id"] for row in rows]
        if query["marker"] not in idents:
            raise Invalid(f"marker [{query['marker']}] not found", field="marker")
        rows = rows[idents.index(query["marker"]) + 1 :]
    limit = limit_of(call)
    return Page(rows[:limit], len(rows) > limit)


async def show(call: Call) -> Reply:
    """One action; its events are everyone's from 2.51 on, an admin's before."""
    row, events = await call.read(actions.show_action, call.path["server_id"], call.path["request_id"])
    shown = _action(call, row)
    is_admin = allowed(call, "os-instance-actions:events")
    if is_admin or call.at_least(51):
        names = await call.read(names_of) if is_admin else {}
        shown["events"] = [_event(call, row["project_id"], event, is_admin, names) for event in events]
    return Reply({"instanceAction": shown})
