"""resolv.conf, hosts and hostname of a guest: mounted over the image's own one by one, so they are changed in place."""

import os
from collections.abc import Iterable
from pathlib import Path

from nacre.node.drivers import Plugged
from nacre.node.runtimes.containers.layout import GuestPaths
from nacre.protocol.containers import Container
from nacre.protocol.guests import Guest

HOST_FILE_BYTES_MAX = 1 << 20
_LOCAL = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
_NOTHING = Container(())


def _resolv(container: Container, ports: list[Plugged]) -> list[str]:
    servers = container.dns or tuple(dict.fromkeys(server for port in ports for server in port.dns_nameservers))
    domains = container.dns_search or _domains(ports)
    # Docker's way to say that there is none: a single dot.
    lines = [f"search {' '.join(domains)}"] if domains and tuple(domains) != (".",) else []
    lines += [f"nameserver {server}" for server in servers]
    return lines + ([f"options {' '.join(container.dns_options)}"] if container.dns_options else [])


def _domains(ports: list[Plugged]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(port.dns_domain.rstrip(".") for port in ports if port.dns_domain.strip(".")))


def _hosts(name: str, container: Container, ports: list[Plugged]) -> list[str]:
    domain = container.domainname or next(iter(_domains(ports)), "")
    names = f"{name}.{domain} {name}" if domain else name
    own = [address.partition("/")[0] for port in ports[:1] for address in port.addresses] or ["127.0.1.1"]
    lines = [*_LOCAL, *(f"{address} {names}" for address in own)]
    return lines + [f"{address} {host}" for host, _, address in (entry.partition(":") for entry in container.extra_hosts)]


def write(paths: GuestPaths, guest: Guest, plugged: Iterable[Plugged], base_id: int) -> None:
    """Raises OSError. On the host's network the files say what the host's own say."""
    container, ports, name = guest.container or _NOTHING, list(plugged), guest.instance.hostname
    found = {
        "resolv.conf": "".join(f"{line}\n" for line in _resolv(container, ports)),
        "hosts": "".join(f"{line}\n" for line in _hosts(name, container, ports)),
        "hostname": f"{name}\n",
    }
    if container.network == "host":
        extra = "".join(f"{address} {host}\n" for host, _, address in (entry.partition(":") for entry in container.extra_hosts))
        found["hosts"] = _of_host("hosts") + extra
        found["resolv.conf"] = found["resolv.conf"] if container.dns else _of_host("resolv.conf")
    for file, text in found.items():
        path = paths.etc / file
        path.write_text(text)
        os.chown(path, base_id, base_id)


def _of_host(name: str) -> str:
    try:
        with Path("/etc", name).open("rb") as file:
            return file.read(HOST_FILE_BYTES_MAX).decode(errors="replace")
    except FileNotFoundError:
        return ""
