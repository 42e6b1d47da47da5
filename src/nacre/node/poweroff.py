"""`python -m nacre.node.poweroff --config FILE`: takes from the kernel what a cut of the power would take, and leaves the disk. For labs,
whose hosts share one kernel. What is left for the node that starts next is what a machine finds after it was switched off at that moment.
"""

import argparse
import asyncio
from pathlib import Path

from nacre.node.config import NodeConfig, load


def main() -> None:
    parser = argparse.ArgumentParser(prog="nacre.node.poweroff", description="End all of a cloud's guests on this host at once.")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(cut_power(load(arguments.config)))


async def cut_power(config: NodeConfig) -> None:
    """Needs the node process to be dead. Again: nothing to do. Raises OSError with what did not go."""
    if config.simulated_hosts:
        return
    from nacre.node import volumes
    from nacre.node.network import purge as purge_network
    from nacre.node.runtimes import containers

    await asyncio.to_thread(containers.cut_power, config)
    await purge_network(config)
    await asyncio.to_thread(volumes.cut_power, config)


if __name__ == "__main__":
    main()
