"""The drivers of a real host, put together."""

from nacre.node.config import NodeConfig
from nacre.node.dns import NameService
from nacre.node.dns.control import Ask
from nacre.node.drivers import DiskSource, GuestDriver, ImageSource, NetworkDriver, StreamServer, VolumeDriver
from nacre.node.images import ImageCache
from nacre.node.metadata import MetadataService, Passwords
from nacre.node.network import LinuxNetworkDriver
from nacre.node.network.remote import RemoteNetworks
from nacre.node.relay import Forward, RelayService
from nacre.node.runtimes.containers import ContainerDriver
from nacre.node.runtimes.containers.streams.server import ContainerStreams
from nacre.node.volumes import HostVolumes
from nacre.protocol.guests import Guest


def drivers(
    config: NodeConfig,
    source: ImageSource,
    names: Ask | None = None,
    forward: Forward | None = None,
    passwords: Passwords | None = None,
    disks: DiskSource | None = None,
) -> tuple[GuestDriver, NetworkDriver, VolumeDriver, StreamServer]:
    """The container runtime over the native data plane; the metadata service answers for the runtime's guests."""
    network: LinuxNetworkDriver
    guests: ContainerDriver

    def guest_at(network_id: str, address: str) -> Guest | None:
        port = network.port_at(network_id, address)
        return guests.guest(port.device_id) if port is not None else None

    metadata = MetadataService(guest_at, passwords)
    network = LinuxNetworkDriver(config, metadata, NameService(names), RelayService(forward) if forward else None)
    volumes = HostVolumes(config)
    networks = RemoteNetworks(config, network)
    guests = ContainerDriver(config, networks, ImageCache(config.state, source), volumes, disks)
    guests.opened.append(lambda parts: setattr(parts, "documents", metadata.config_drive))
    return guests, networks, volumes, ContainerStreams(guests)
