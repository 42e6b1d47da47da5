"""The node process: `python -m nacre.node --config FILE`."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

from nacre.node import facts
from nacre.node.agent import Agent, Api, Host
from nacre.node.config import NodeConfig, load
from nacre.node.runtimes.simulated import SimulatedGuests, SimulatedNetwork, SimulatedStreams, SimulatedVolumes
from nacre.protocol.messages import Capacity

SWITCH_INTERVAL_S = 0.0005
SIMULATED_CAPACITY = Capacity(vcpus=64, memory_mb=262_144, disk_gb=4_096)
SIMULATED_FACTS: dict[str, Any] = {
    "kernel": "Linux",
    "kernelrelease": "6.1.0-simulated",
    "architecture": "x86_64",
    "operatingsystem": "Debian",
    "processorcount": SIMULATED_CAPACITY.vcpus,
    "memorysize_mb": SIMULATED_CAPACITY.memory_mb,
    "virtual": "simulated",
    "is_virtual": True,
    "selinux": False,
    "selinux_enforced": False,
    "hypervisor": "none",
    "volume_drivers": ["local"],
    "system_overload_10min": "00",
}

log = logging.getLogger("nacre.node")


def main() -> None:
    parser = argparse.ArgumentParser(prog="nacre.node", description="The node of a Nacre cloud.")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Guests' own root walks through folders that this process makes; what must not be read says so by its own mode.
    os.umask(0o022)
    # The loop and the threads that talk to the kernel hand each other work: none waits 5 ms for the interpreter's lock.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    asyncio.run(_run(load(arguments.config)))


async def _run(config: NodeConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = Api(config.gateway_socket, config.api_uid, config.host_id)
    agents = _simulated(config, api) if config.simulated_hosts else [_real(config, api)]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    waiting = asyncio.create_task(_wait(stop))
    # An agent that ends has failed: the process goes with it, and whoever supervises it starts it again.
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for agent in agents:
        await agent.close()
    await api.close()
    waiting.cancel()
    for task in done:
        if task is not waiting:
            task.result()


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


def _real(config: NodeConfig, api: Api) -> Agent:
    """The host that this process runs on, with containers and a data plane in the kernel."""
    from nacre.node.host import drivers

    guests, network, volumes, streams = drivers(config, api, api.ask_name, api.relay, api.password)
    host = Host(
        id=config.host_id,
        hostname=config.hostname or facts.hostname(),
        boot_id=facts.boot_id(),
        capacity=facts.capacity(config.state),
        runtimes=("container",),
        hypervisor_type="container",
        tunnel_ip=config.tunnel_ip,
    )
    return Agent(host, api, guests, network, volumes, streams, facts=facts.Facts(config.facts_folders))


def _simulated(config: NodeConfig, api: Api) -> list[Agent]:
    """So many hosts that are nothing but their state."""
    boot_id, first = str(uuid.uuid4()), config.simulated_first
    return [_simulated_host(config, api, number, boot_id) for number in range(first, first + config.simulated_hosts)]


def _simulated_host(config: NodeConfig, api: Api, number: int, boot_id: str) -> Agent:
    """Its facts can be set in the folders for facts: for all of them there, for one in a folder of its name."""
    hostname = f"sim-{number:04}"
    host = Host(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{config.cloud_id}/{number}")),
        hostname=hostname,
        boot_id=boot_id,
        capacity=SIMULATED_CAPACITY,
        runtimes=("simulated",),
        hypervisor_type="simulated",
    )
    folders = [place for folder in config.facts_folders for place in (folder, folder / hostname)]
    own = facts.Facts(folders, given={**SIMULATED_FACTS, "hostname": hostname})
    guests = SimulatedGuests()
    return Agent(host, api, guests, SimulatedNetwork(), SimulatedVolumes(), SimulatedStreams(guests), facts=own)


if __name__ == "__main__":
    main()
