"""`python -m nacre.node.purge --config FILE`: takes every trace of this cloud off the host, guests first. For `down --purge`."""

import argparse
import asyncio
from pathlib import Path

from nacre.node.config import NodeConfig, load


def main() -> None:
    parser = argparse.ArgumentParser(prog="nacre.node.purge", description="Remove everything of a cloud from this host.")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(purge(load(arguments.config)))


async def purge(config: NodeConfig) -> None:
    """Needs the node process to be stopped. Again: nothing to do."""
    if config.simulated_hosts:
        return
    from nacre.node.network import purge as purge_network
    from nacre.node.network.remote import purge as purge_plugins
    from nacre.node.runtimes.containers import purge as purge_containers
    from nacre.node.volumes import purge as purge_volumes

    await purge_plugins(config)
    await purge_containers(config)
    await purge_network(config)
    await purge_volumes(config)


if __name__ == "__main__":
    main()
