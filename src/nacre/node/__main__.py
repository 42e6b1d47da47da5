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
from nacre.node.acceptance import examine_host
from nacre.node.agent import Agent, Host
from nacre.node.api import Api, joined_api, local_apis
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

UNFIT_FACT = "simulated_unfit"
"""A fact that makes the examination of a simulated host fail, with this cause."""

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
    apis = _apis(config)
    agents = _simulated(config, apis) if config.simulated_hosts else [_real(config, apis[0])]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    waiting = asyncio.create_task(_wait(stop))
    # An agent that ends has failed: the process goes with it, and whoever supervises it starts it again.
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for agent in agents:
        await agent.close()
    for api in apis:
        await api.close()
    waiting.cancel()
    for task in done:
        if task is not waiting:
            task.result()


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


def _apis(config: NodeConfig) -> list[Api]:
    """One for each host."""
    if config.joined:
        return [joined_api(config, host) for host in config.joined]
    return local_apis(config, [host_id for host_id, _ in _simulated_names(config)] or [config.host_id])


def _real(config: NodeConfig, api: Api) -> Agent:
    """The host that this process runs on, with containers and a data plane in the kernel."""
    from nacre.node.host import drivers
    from nacre.node.network.paths import underlay_mtu

    guests, network, volumes, streams = drivers(config, api, api.ask_name, api.relay, api.password, api.disk)
    host = Host(
        id=config.host_id,
        hostname=config.hostname or facts.hostname(),
        boot_id=facts.boot_id() + config.boot_id,
        capacity=facts.capacity(config.state),
        runtimes=("container",),
        hypervisor_type="container",
        tunnel_ip=config.tunnel_ip,
        external=bool(config.external),
        underlay_mtu=underlay_mtu(config.tunnel_ip),
    )
    return Agent(
        host, api, guests, network, volumes, streams, facts.Facts(config.facts_folders), lambda: examine_host(config.state)
    )


def _simulated(config: NodeConfig, apis: list[Api]) -> list[Agent]:
    """So many hosts that are nothing but their state."""
    boot_id = str(uuid.uuid4())
    names = _simulated_names(config)
    return [_simulated_host(config, api, *name, boot_id) for api, name in zip(apis, names, strict=True)]


def _simulated_names(config: NodeConfig) -> list[tuple[str, str]]:
    """The ids and names of the simulated hosts of this process."""
    if config.joined:
        return [(host.host_id, host.hostname) for host in config.joined]
    numbers = range(config.simulated_first, config.simulated_first + config.simulated_hosts)
    return [(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{config.cloud_id}/{number}")), f"sim-{number:04}") for number in numbers]


def _simulated_host(config: NodeConfig, api: Api, host_id: str, hostname: str, boot_id: str) -> Agent:
    """Its facts can be set in the folders for facts: for all of them there, for one in a folder of its name."""
    host = Host(
        id=host_id,
        hostname=hostname,
        boot_id=boot_id,
        capacity=SIMULATED_CAPACITY,
        runtimes=("simulated",),
        hypervisor_type="simulated",
    )
    folders = [place for folder in config.facts_folders for place in (folder, folder / hostname)]
    own = facts.Facts(folders, given={**SIMULATED_FACTS, "hostname": hostname})
    guests = SimulatedGuests(disks=api.disk)

    async def examine() -> str:
        """Nothing is against it, but what its facts say for a test's sake."""
        return str(own.all().get(UNFIT_FACT, ""))

    return Agent(host, api, guests, SimulatedNetwork(), SimulatedVolumes(), SimulatedStreams(guests), own, examine)


if __name__ == "__main__":
    main()
