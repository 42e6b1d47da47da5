"""On what the host runs: `virtual` under Facter's names, by what the kernel shows."""

from nacre.node.facts.source import Source

CONTAINERS = {
    "docker": "docker",
    "kubepods": "docker",
    "libpod": "podman",
    "lxc": "lxc",
    "machine.slice/machine": "systemd_nspawn",
}
"""A part of the cgroup of process 1 -> `virtual`."""
CONTAINER_NAMES = {"docker": "docker", "podman": "podman", "lxc": "lxc", "systemd-nspawn": "systemd_nspawn", "oci": "docker"}
"""What `container` says in process 1's environment, or /run/systemd/container."""
FIRMWARE = (
    ("virtualbox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("vmware", "vmware"),
    ("parallels", "parallels"),
    ("bhyve", "bhyve"),
    ("hvm domu", "xenhvm"),
    ("xen", "xenhvm"),
    ("google", "gce"),
    ("amazon ec2", "kvm"),
    ("openstack", "kvm"),
    ("kvm", "kvm"),
    ("qemu", "kvm"),
    ("bochs", "kvm"),
    ("ovirt", "ovirt"),
    ("rhev", "rhev"),
    ("microsoft corporation virtual machine", "hyperv"),
)
"""A part of what the firmware says of vendor and product, in small letters -> `virtual`; the first row that fits."""
FIRMWARE_FILES = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
CLOCKS = {"kvm-clock": "kvm", "hyperv_clocksource_tsc_page": "hyperv", "xen": "xenhvm"}
"""A clock source that only that hypervisor gives -> `virtual`."""
UNKNOWN = "virtual"
"""The processor says that there is a hypervisor, and nothing says which."""


def virtual(source: Source) -> str:
    """`physical`, a kind of container, or a kind of virtual machine."""
    return _container(source) or _xen(source) or _machine(source) or "physical"


def _container(source: Source) -> str:
    named = source.text("run/systemd/container")
    for entry in source.text("proc/1/environ").split("\0"):
        if entry.startswith("container="):
            named = entry.removeprefix("container=")
    if named:
        return CONTAINER_NAMES.get(named, named)
    if source.exists("proc/vz") and not source.exists("proc/bc"):
        return "openvzve"
    cgroup = source.text("proc/1/cgroup")
    found = next((kind for part, kind in CONTAINERS.items() if f"/{part}" in cgroup), "")
    if not found and source.exists(".dockerenv") and any(" / overlay " in line for line in source.lines("proc/self/mounts")):
        # An image that was made into a machine's disk keeps the file; a container has an overlay at its root too.
        return "docker"
    return found


def _xen(source: Source) -> str:
    if source.exists("proc/xen/capabilities"):
        return "xen0" if "control_d" in source.text("proc/xen/capabilities") else "xenu"
    if source.text("sys/hypervisor/type") == "xen":
        return "xenu" if source.text("sys/hypervisor/guest_type") == "PV" else "xenhvm"
    return ""


def _machine(source: Source) -> str:
    said = " ".join(source.text(f"sys/class/dmi/id/{name}") for name in FIRMWARE_FILES).lower()
    for part, kind in FIRMWARE:
        if part in said:
            return kind
    flags = next((line for line in source.lines("proc/cpuinfo") if line.startswith("flags")), "")
    if " hypervisor" not in flags:
        return ""
    clocks = source.text("sys/devices/system/clocksource/clocksource0/available_clocksource").split()
    return next((CLOCKS[clock] for clock in clocks if clock in CLOCKS), UNKNOWN)
