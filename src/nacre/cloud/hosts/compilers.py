"""Which domain compiles which kind of desired thing."""

from nacre.cloud.compute.desired import compile_guests
from nacre.cloud.hosts.desired import Compiler
from nacre.cloud.network.desired import compile_networks, compile_ports, compile_routers, compile_security_groups
from nacre.cloud.volumes.desired import compile_volumes
from nacre.protocol.messages import Kind

COMPILERS: dict[Kind, Compiler] = {
    "network": compile_networks,
    "security_group": compile_security_groups,
    "port": compile_ports,
    "router": compile_routers,
    "volume": compile_volumes,
    "guest": compile_guests,
}
