"""Facts of what guests may be given here: the hypervisor, and the plugins for volumes and networks that are found on the host."""

from nacre.node.facts.source import Source

PLUGIN_FOLDERS = ("run/docker/plugins", "etc/docker/plugins", "usr/lib/docker/plugins")
PLUGIN_ENDINGS = (".sock", ".spec", ".json")


def hypervisor(source: Source) -> str:
    """`kvm` where the kernel has it, `qemu` where machines could be emulated, else `none`."""
    if source.exists("dev/kvm"):
        return "kvm"
    return "qemu" if any(name.startswith("qemu-system-") for name in source.names("usr/bin")) else "none"


def plugins(source: Source) -> list[str]:
    """Names of Docker's plugins on this host ("Docker Plugin API": sockets, and files that say where one listens)."""
    found = set()
    for folder in PLUGIN_FOLDERS:
        for name in source.names(folder):
            within = f"{folder}/{name}"
            for file in (name, *(f"{name}/{inner}" for inner in source.names(within))):
                stem, dot, ending = file.rpartition("/")[2].rpartition(".")
                if dot + ending in PLUGIN_ENDINGS and file in (f"{stem}.{ending}", f"{stem}/{stem}.{ending}"):
                    found.add(stem)
    return sorted(found)


def volume_drivers(source: Source) -> list[str]:
    """The node's own and every plugin; whether one really makes volumes is asked with its first use."""
    return ["local", *(name for name in plugins(source) if name != "local")]
