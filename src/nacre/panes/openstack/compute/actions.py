"""POST /servers/{id}/action: one table from the action's name to its body, what it does, and since when and until when it is there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from msgspec import UNSET

from nacre.cloud.compute import actions, passwords, rebuilding, resizing, servers, snapshots
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import consoles, floating_ips, gone, recovery, schemas
from nacre.panes.openstack.compute import schemas_recovery as recover
from nacre.panes.openstack.compute.dialect import allow, check_ranges, only
from nacre.panes.openstack.compute.servers import check_hostname, files_of, load, view_of

REBUILT = (
    "name",
    "description",
    "hostname",
    "metadata",
    "user_data",
    "key_name",
    "access_ip_v4",
    "access_ip_v6",
    "disk_config",
)
"""What of a server a rebuild may change too."""


class Action(NamedTuple):
    """`shape` None: the body is null (or empty). `policy` is a row of the table beside the route's own."""

    run: Callable[[Call, str, Any], Awaitable[Reply]]
    policy: str
    shape: Any = None
    since: int = 1
    until: int | None = None


async def run(call: Call) -> Reply:
    sent = await call.body(dict[str, Any])
    name = next(iter(sent), "")
    action = ACTIONS.get(name)
    minor = call.version.minor
    if action is None or len(sent) != 1 or minor < action.since or (action.until is not None and minor > action.until):
        raise Invalid(f"There is no such action: {name}" if sent else "Malformed request body", field=name or "body")
    allow(call, action.policy)
    body = sent[name]
    if action.shape is None:
        if body not in (None, {}, ""):
            raise Invalid(f"Invalid input for field/attribute {name}. It takes no arguments.", field=name)
    else:
        body = only(sent, name, action.shape)
    return await action.run(call, call.path["server_id"], body)


def _plain(operation: Callable[..., None]) -> Callable[[Call, str, Any], Awaitable[Reply]]:
    async def act(call: Call, ident: str, body: Any) -> Reply:
        await call.write(operation, ident)
        return Reply(status=202)

    return act


async def _reboot(call: Call, ident: str, body: schemas.RebootBody) -> Reply:
    await call.write(actions.reboot, ident, "hard" if body.type.lower() == "hard" else "soft")
    return Reply(status=202)


async def _resize(call: Call, ident: str, body: schemas.ResizeBody) -> Reply:
    flavor_id = str(body.flavor_ref).rpartition("/")[2]
    disk_config = body.disk_config if isinstance(body.disk_config, str) else None
    await call.write(resizing.resize, ident, flavor_id, disk_config, known=recovery.placing_of(call))
    return Reply(status=202)


async def _confirm(call: Call, ident: str, body: Any) -> Reply:
    await call.write(resizing.confirm, ident)
    return Reply(status=204)


async def _create_image(call: Call, ident: str, body: schemas.CreateImageBody) -> Reply:
    """From 2.45 on the body names the image, before that the Location header does."""
    return _made(call, await snapshots.create(call.cloud, call.context, ident, body.name, body.metadata or {}))


async def _create_backup(call: Call, ident: str, body: schemas.CreateBackupBody) -> Reply:
    """Keeps the newest `rotation` backups of that type."""
    rotation = schemas.number(body.rotation)
    metadata = {**(body.metadata or {}), "backup_type": body.backup_type}
    kept = snapshots.Rotation(body.backup_type, rotation)
    image = await snapshots.create(call.cloud, call.context, ident, body.name, metadata, kept)
    return _made(call, image) if rotation else Reply(status=202)


def _made(call: Call, image: dict[str, Any]) -> Reply:
    if call.at_least(45):
        return Reply({"image_id": image["id"]}, 202)
    return Reply(status=202, headers={"Location": f"{call.cloud.settings.base_url}/image/images/{image['id']}"})


async def _rebuild(call: Call, ident: str, body: schemas.RebuildBody) -> Reply:
    """Answers with the server as it is now, being rebuilt."""
    check_ranges(call, body, schemas.REBUILD_RANGES)
    if body.trusted_image_certificates not in (UNSET, None):
        raise Invalid("Image certificates are not checked here.", field="rebuild.trusted_image_certificates")
    check_hostname(call, body.hostname, "rebuild.hostname")
    values = {name: value for name in REBUILT if (value := getattr(body, name)) is not UNSET}
    password = body.admin_pass if isinstance(body.admin_pass, str) else passwords.generate()
    values["password_hash"] = await asyncio.to_thread(passwords.hash_of, password)
    if body.personality is not UNSET:
        values["files"] = files_of(body.personality)
    image_id = body.image_ref.rpartition("/")[2]
    try:
        await call.write(rebuilding.rebuild, ident, image_id, values)
    except NotFound as error:
        if error.code == "InstanceNotFound":
            raise
        raise Invalid(error.message, field="rebuild.imageRef", code=error.code) from None
    view = await view_of(call)
    row, ports = await call.read(load, ident)
    shown = view.rebuilt(row, ports, password)
    return Reply({"server": shown}, 202, {"Location": view.links(ident)[0]["href"]})


async def _lock(call: Call, ident: str, body: schemas.LockBody | None) -> Reply:
    reason = None if body is None else body.locked_reason
    if reason is not None and not call.at_least(73):
        raise Invalid("Additional properties are not allowed ('locked_reason' was unexpected)", field="lock.locked_reason")
    await call.write(actions.lock, ident, reason)
    return Reply(status=202)


async def _add_fixed_ip(call: Call, ident: str, body: schemas.AddFixedIpBody) -> Reply:
    await call.write(actions.add_fixed_ip, ident, body.network_id)
    return Reply(status=202)


async def _remove_fixed_ip(call: Call, ident: str, body: schemas.RemoveFixedIpBody) -> Reply:
    await call.write(actions.remove_fixed_ip, ident, body.address)
    return Reply(status=202)


async def _reset_state(call: Call, ident: str, body: schemas.ResetState) -> Reply:
    await call.write(actions.reset_state, ident, body.state)
    return Reply(status=202)


async def _add_group(call: Call, ident: str, body: schemas.SecurityGroupName) -> Reply:
    await call.write(actions.add_security_group, ident, body.name)
    return Reply(status=202)


async def _remove_group(call: Call, ident: str, body: schemas.SecurityGroupName) -> Reply:
    await call.write(actions.remove_security_group, ident, body.name)
    return Reply(status=202)


async def _console(call: Call, ident: str, body: schemas.ConsoleBody) -> Reply:
    """The end of the console's log. Bytes that are no UTF-8 are shown as replacement characters."""
    row = await call.read(servers.get, ident)
    if row["host_id"] is None or row["observed_state"] is None:
        raise Conflict(f"Instance {ident} is not ready", code="InstanceNotReady")
    data = await call.cloud.hosts.dial(row["host_id"], "console", ident, {})
    lines = schemas.number(body.length) if body.length is not None else -1
    return Reply({"output": _tail(data.decode("utf-8", "replace"), lines)})


def _tail(text: str, lines: int) -> str:
    """The last lines of a text, counted as Nova counts: what follows the last line end is one of them. All of it for -1."""
    if lines < 0:
        return text
    kept = text.split("\n")
    return "\n".join(kept[max(0, len(kept) - lines) :])


ACTIONS: dict[str, Action] = {
    "os-start": Action(_plain(actions.start), "servers:start"),
    "os-stop": Action(_plain(actions.stop), "servers:stop"),
    "reboot": Action(_reboot, "servers:reboot", schemas.RebootBody),
    "pause": Action(_plain(actions.pause), "os-pause-server:pause"),
    "unpause": Action(_plain(actions.unpause), "os-pause-server:unpause"),
    "suspend": Action(_plain(actions.suspend), "os-suspend-server:suspend"),
    "resume": Action(_plain(actions.resume), "os-suspend-server:resume"),
    "resize": Action(_resize, "servers:resize", schemas.ResizeBody),
    "confirmResize": Action(_confirm, "servers:confirm_resize"),
    "revertResize": Action(_plain(resizing.revert), "servers:revert_resize"),
    "rebuild": Action(_rebuild, "servers:rebuild", schemas.RebuildBody),
    "rescue": Action(recovery.rescue, "os-rescue", recover.Rescue | None),
    "unrescue": Action(recovery.unrescue, "os-unrescue"),
    "shelve": Action(recovery.shelve, "os-shelve:shelve"),
    "shelveOffload": Action(recovery.shelve_offload, "os-shelve:shelve_offload"),
    "unshelve": Action(recovery.unshelve, "os-shelve:unshelve", recover.Unshelve | None),
    "changePassword": Action(recovery.change_password, "os-admin-password", recover.ChangePassword),
    "evacuate": Action(recovery.evacuate, "os-evacuate", recover.Evacuate),
    "migrate": Action(recovery.migrate, "os-migrate-server:migrate", recover.MigrateTo | None),
    "os-migrateLive": Action(recovery.migrate_live, "os-migrate-server:migrate_live", recover.MigrateLive),
    "trigger_crash_dump": Action(recovery.crash, "servers:trigger_crash_dump", since=17),
    "os-getSerialConsole": Action(consoles.action("serial"), "os-remote-consoles", recover.ConsoleType, until=5),
    "os-getVNCConsole": Action(consoles.action("vnc"), "os-remote-consoles", recover.ConsoleType, until=5),
    "os-getSPICEConsole": Action(consoles.action("spice"), "os-remote-consoles", recover.ConsoleType, until=5),
    "os-getRDPConsole": Action(consoles.action("rdp"), "os-remote-consoles", recover.ConsoleType, until=5),
    "createImage": Action(_create_image, "servers:create_image", schemas.CreateImageBody),
    "createBackup": Action(_create_backup, "os-create-backup", schemas.CreateBackupBody),
    "lock": Action(_lock, "os-lock-server:lock", schemas.LockBody | None),
    "unlock": Action(_plain(actions.unlock), "os-lock-server:unlock"),
    "forceDelete": Action(_plain(servers.delete), "os-deferred-delete:force"),
    "os-getConsoleOutput": Action(_console, "os-console-output", schemas.ConsoleBody),
    "addFixedIp": Action(_add_fixed_ip, "os-multinic:add", schemas.AddFixedIpBody, until=43),
    "removeFixedIp": Action(_remove_fixed_ip, "os-multinic:remove", schemas.RemoveFixedIpBody, until=43),
    "addFloatingIp": Action(floating_ips.add, "os-floating-ips:add", schemas.AddFloatingIp, until=43),
    "removeFloatingIp": Action(floating_ips.remove, "os-floating-ips:remove", schemas.RemoveFloatingIp, until=43),
    "os-resetState": Action(_reset_state, "os-admin-actions:reset_state", schemas.ResetState),
    "resetNetwork": Action(gone.of_action, "os-admin-actions:reset_network"),
    "injectNetworkInfo": Action(_plain(actions.refresh), "os-admin-actions:inject_network_info"),
    "restore": Action(_plain(actions.restore), "os-deferred-delete:restore"),
    "addSecurityGroup": Action(_add_group, "os-security-groups:add", schemas.SecurityGroupName),
    "removeSecurityGroup": Action(_remove_group, "os-security-groups:remove", schemas.SecurityGroupName),
}
