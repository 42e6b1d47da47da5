"""Actions that take a server out of its usual life and back: rescue, shelve, evacuate, another password for root."""

import asyncio
from typing import Any

from nacre.cloud.compute import live_migration, moving, passwords, rescuing, shelving
from nacre.cloud.compute.placing import Placing
from nacre.cloud.errors import Invalid
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import schemas_recovery as schemas
from nacre.panes.openstack.compute.dialect import allow, check_ranges, unexpected


def placing_of(call: Call) -> Placing:
    """What the scheduler must know of this moment."""
    settings, hosts = call.cloud.settings, call.cloud.hosts
    return Placing(hosts.alive(), settings.ratios, hosts.facts, settings.strategy)


async def rescue(call: Call, ident: str, body: schemas.Rescue | None) -> Reply:
    """Answers with root's password in the rescue system, 200 and not 202."""
    sent = body or schemas.Rescue()
    password = sent.admin_pass or passwords.generate()
    hashed = await asyncio.to_thread(passwords.hash_of, password)
    await call.write(rescuing.rescue, ident, (sent.rescue_image_ref or "").rpartition("/")[2] or None, hashed)
    return Reply({"adminPass": password})


async def unrescue(call: Call, ident: str, body: Any) -> Reply:
    await call.write(rescuing.unrescue, ident)
    return Reply(status=202)


async def change_password(call: Call, ident: str, body: schemas.ChangePassword) -> Reply:
    await call.write(passwords.change, ident, await asyncio.to_thread(passwords.hash_of, body.admin_pass))
    return Reply(status=202)


async def shelve(call: Call, ident: str, body: Any) -> Reply:
    await call.write(shelving.shelve, ident)
    return Reply(status=202)


async def shelve_offload(call: Call, ident: str, body: Any) -> Reply:
    await call.write(shelving.offload_now, ident)
    return Reply(status=202)


async def unshelve(call: Call, ident: str, body: schemas.Unshelve | None) -> Reply:
    """A zone may be named from 2.77 on, a host from 2.91 on; then a zone that is null takes the pin away."""
    zone, unpin = None, False
    if body is not None:
        check_ranges(call, body, schemas.UNSHELVE_RANGES)
        if not call.at_least(77):
            raise unexpected("unshelve")
        unpin = body.availability_zone is None
        if unpin and not call.at_least(91):
            raise Invalid("Invalid input for field/attribute unshelve.availability_zone. None is not of type 'string'")
        zone = body.availability_zone if isinstance(body.availability_zone, str) else None
        if isinstance(body.host, str):
            allow(call, "os-shelve:unshelve_to_host")
            zone = f"{zone or ''}:{body.host}"
    await call.write(shelving.unshelve, ident, placing_of(call), zone, unpin=unpin)
    return Reply(status=202)


async def evacuate(call: Call, ident: str, body: schemas.Evacuate) -> Reply:
    """Until 2.13 the answer bears the new password of root."""
    check_ranges(call, body, schemas.EVACUATE_RANGES)
    password = body.admin_pass if isinstance(body.admin_pass, str) else passwords.generate()
    hashed = await asyncio.to_thread(passwords.hash_of, password)
    host = body.host if isinstance(body.host, str) else None
    await call.write(moving.evacuate, ident, host, hashed, placing_of(call), stay_stopped=call.at_least(95))
    return Reply() if call.at_least(14) else Reply({"adminPass": password})


async def migrate(call: Call, ident: str, body: schemas.MigrateTo | None) -> Reply:
    """A host may be named from 2.56 on; clients of before send null or {}."""
    if body is not None and body.host is not None and not call.at_least(56):
        raise Invalid("Invalid input for field/attribute migrate. It takes no arguments.", field="migrate")
    await call.write(moving.migrate, ident, None if body is None else body.host, placing_of(call))
    return Reply(status=202)


async def migrate_live(call: Call, ident: str, body: schemas.MigrateLive) -> Reply:
    """`auto` block migration is from 2.25 on, force from 2.30 to 2.67; there is one way here, and the disk always goes along."""
    check_ranges(call, body, schemas.LIVE_RANGES)
    await call.write(live_migration.migrate, ident, body.host, placing_of(call))
    return Reply(status=202)


async def crash(call: Call, ident: str, body: Any) -> Reply:
    """There is no kernel of the server's own that could dump."""
    await call.write(moving.refuse_crash_dump, ident)
    return Reply(status=202)
