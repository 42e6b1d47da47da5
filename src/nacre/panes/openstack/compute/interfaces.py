"""A server's network interfaces (os-interface) and its addresses (ips)."""

from typing import Any

from nacre.cloud.collection import Row
from nacre.cloud.compute import actions
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.network.servers import NetworkRequest
from nacre.panes.edge import Call, Reply
from nacre.panes.openstack.compute import schemas
from nacre.panes.openstack.compute.dialect import check_ranges, only
from nacre.panes.openstack.compute.render import addresses, interface
from nacre.panes.openstack.compute.servers import load


async def _ports(call: Call) -> list[Row]:
    _, ports = await call.read(load, call.path["server_id"])
    return ports


def _port(ports: list[Row], ident: str) -> Row:
    for port in ports:
        if port["port_id"] == ident:
            return port
    raise NotFound(f"Port id {ident} could not be found.", code="PortNotFound")


async def index(call: Call) -> Reply:
    return Reply({"interfaceAttachments": [interface(call, port) for port in await _ports(call)]})


async def show(call: Call) -> Reply:
    return Reply({"interfaceAttachment": interface(call, _port(await _ports(call), call.path["port_id"]))})


async def create(call: Call) -> Reply:
    """A port that is there, a new one in a network (with an address of choice), or one in the project's only network."""
    body = await call.body(dict[str, Any])
    sent = only({"interfaceAttachment": {}, **body}, "interfaceAttachment", schemas.InterfaceCreate)
    check_ranges(call, sent, schemas.INTERFACE_RANGES)
    if sent.net_id and sent.port_id:
        raise Invalid("Must not input both network_id and port_id", field="interfaceAttachment.net_id")
    if sent.fixed_ips and not sent.net_id:
        raise Invalid("Must input network_id when request IP address", field="interfaceAttachment.fixed_ips")
    request = NetworkRequest(
        network_id=sent.net_id,
        port_id=sent.port_id,
        fixed_ip=sent.fixed_ips[0].ip_address if sent.fixed_ips else None,
        tag=sent.tag if isinstance(sent.tag, str) else None,
    )
    made = await call.write(actions.attach_interface, call.path["server_id"], request)
    port = _port(await _ports(call), made.get("port_id") or made["id"])
    return Reply({"interfaceAttachment": interface(call, port)})


async def delete(call: Call) -> Reply:
    await call.write(actions.detach_interface, call.path["server_id"], call.path["port_id"])
    return Reply(status=202)


async def list_ips(call: Call) -> Reply:
    return Reply({"addresses": addresses(await _ports(call), extended=False)})


async def show_ips(call: Call) -> Reply:
    """The addresses in one network, by its name."""
    label = call.path["network_label"]
    shown = addresses(await _ports(call), extended=False)
    if label not in shown:
        raise NotFound("Instance is not a member of specified network", code="HTTPNotFound")
    return Reply({label: shown[label]})
