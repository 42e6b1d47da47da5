"""A node's network as a process of its own, for tests that kill it or set it into another host's namespace.

Reads an Orders from the file that it is given, carries it out, says `done`, and stays until its standard input ends.
"""

import asyncio
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
from msgspec import Struct

from nacre.node.config import NodeConfig
from nacre.node.metadata import MetadataService
from nacre.node.network import LinuxNetworkDriver
from nacre.protocol.messages import Gone, Item


class Orders(Struct):
    config: NodeConfig
    items: list[Item]
    gone: list[Gone]
    plugs: dict[str, str]
    """Port id to the path of the guest's namespace."""


def carry_out(frame: bytes, begun: Connection) -> None:
    """In a forked process: say that it begins, and carry the orders out."""
    begun.send("begin")
    asyncio.run(main(frame))


async def main(frame: bytes) -> None:
    orders = msgspec.msgpack.decode(frame, type=Orders)
    driver = LinuxNetworkDriver(orders.config, MetadataService(lambda network_id, address: None))
    await driver.start()
    faults = [o.fault for o in await driver.apply(orders.items, orders.gone, full=True) if o.state == "error"]
    for port_id, netns in orders.plugs.items():
        await driver.plug(port_id, Path(netns), "eth0")
    print("done", *faults, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await driver.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_bytes()))
