"""os-server-password: the password that a server chose itself, encrypted with its owner's public key as it told the metadata service."""

from nacre.cloud.compute import passwords
from nacre.panes.edge import Call, Reply


async def show(call: Call) -> Reply:
    return Reply({"password": await call.read(passwords.encrypted, call.path["server_id"])})


async def clear(call: Call) -> Reply:
    """Clears what the cloud knows; the server keeps its password."""
    await call.write(passwords.forget_encrypted, call.path["server_id"])
    return Reply(status=204)
