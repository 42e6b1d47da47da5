"""Docker's words to the node's: `Config` and `HostConfig` become a protocol `Container`, or an error that names the field.

Nothing is passed over: what this cloud cannot do is refused, in the engine's words where it has some. Names are still names here;
who is not known before the transaction (other containers, volumes, addresses) comes in as `Resolved`.
"""

import ipaddress
import re
import signal
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from nacre.cloud.containers.merging import SHELL, words
from nacre.cloud.errors import Invalid
from nacre.protocol.containers import Container, HealthCheck, Mount, Restart, Ulimit

Row = dict[str, Any]

NANO = 1_000_000_000
ENDLESS_S = -1.0
"""As a stop timeout: it is never killed."""
SHM_BYTES = 64 << 20
LOG_BYTES = 1 << 20
LOG_BYTES_MAX = 256 << 20
HEALTH_NS_MIN = 1_000_000
RESTART_NAMES = ("no", "always", "on-failure", "unless-stopped")
CAPABILITIES_TEXT = """
ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER
FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
CAPABILITIES = frozenset(CAPABILITIES_TEXT.split())
_SYSCTL = re.compile(r"net\..+|kernel\.(shm.*|msg.*|sem)|fs\.mqueue\..+")
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?")
_TOP_SIGNAL = signal.SIGRTMAX


class Resolved(Struct, kw_only=True):
    """What was looked up for a container: its mounts, its place in the network, and the containers that it shares with, by id."""

    mounts: tuple[Mount, ...] = ()
    network: Literal["ports", "none", "guest", "host"] = "ports"
    network_of: str = ""
    extra_hosts: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """Variables that links bring."""
    pid_of: str = ""
    ipc_of: str = ""


def compile_container(config: Mapping[str, Any], host: Mapping[str, Any], resolved: Resolved) -> Container:
    """`config` is already merged with the image's. Raises Invalid."""
    return Container(
        argv=(*(config["Entrypoint"] or ()), *(config["Cmd"] or ())),
        env=(*resolved.env, *_environment(config["Env"])),
        cwd=_folder(config["WorkingDir"]),
        user=config["User"],
        groups=tuple(words(host["GroupAdd"]) or ()),
        tty=bool(config["Tty"]),
        open_stdin=bool(config["OpenStdin"]),
        stdin_once=bool(config["StdinOnce"]),
        domainname=config["Domainname"],
        stop_signal=stop_signal(config["StopSignal"]),
        stop_timeout_s=stop_timeout(config["StopTimeout"]),
        init=bool(host["Init"]),
        read_only=bool(host["ReadonlyRootfs"]),
        cap_add=_capabilities(host["CapAdd"], "CapAdd"),
        cap_drop=_capabilities(host["CapDrop"], "CapDrop"),
        **_security(host),
        sysctls=_sysctls(host["Sysctls"] or {}),
        ulimits=tuple(_ulimit(each) for each in host["Ulimits"] or ()),
        shm_bytes=_shm(host["ShmSize"]),
        mounts=resolved.mounts,
        extra_hosts=(*_extra_hosts(host["ExtraHosts"] or ()), *resolved.extra_hosts),
        dns=_addresses(host["Dns"] or ()),
        dns_search=tuple(host["DnsSearch"] or ()),
        dns_options=tuple(host["DnsOptions"] or ()),
        network=resolved.network,
        network_of=resolved.network_of,
        pid_of=resolved.pid_of,
        ipc_of=resolved.ipc_of,
        restart=restart_of(host),
        health=_health(config["Healthcheck"], config["Shell"]),
        **_log(host["LogConfig"] or {}),
        privileged=bool(host["Privileged"]),
        host_pid=host["PidMode"] == "host",
        devices=tuple(_device(each) for each in host["Devices"] or ()),
    )


def hostname_of(config: Mapping[str, Any], short_id: str) -> str:
    """Raises Invalid."""
    name: str = config["Hostname"] or short_id
    if not _HOSTNAME.fullmatch(name) or len(name) > 63:
        raise Invalid(f"invalid hostname format: {name}", field="Hostname")
    return name


def _environment(entries: list[str]) -> tuple[str, ...]:
    """A name without a value takes the variable away."""
    removed = {entry for entry in entries if "=" not in entry}
    return tuple(entry for entry in entries if "=" in entry and entry.partition("=")[0] not in removed)


def _folder(path: str) -> str:
    if path and not path.startswith("/"):
        raise Invalid(f"the working directory '{path}' is invalid, it needs to be an absolute path", field="WorkingDir")
    return path or "/"


def signal_number(name: str) -> int:
    """KILL, SIGKILL, 9, RTMIN+3. Raises Invalid."""
    text = name.upper().removeprefix("SIG")
    if text.isdigit():
        number = int(text)
        if 0 < number <= _TOP_SIGNAL:
            return number
        raise Invalid(f"Invalid signal: {name}", field="signal")
    base, sign, offset = text.partition("+") if "+" in text else text.partition("-")
    try:
        number = int(getattr(signal, f"SIG{base}"))
        number += (int(offset) if sign == "+" else -int(offset)) if sign else 0
    except (AttributeError, ValueError, TypeError):
        raise Invalid(f"Invalid signal: {name}", field="signal") from None
    if not 0 < number <= _TOP_SIGNAL:
        raise Invalid(f"Invalid signal: {name}", field="signal")
    return number


def stop_signal(name: str) -> str:
    """The signal's name as the node takes it, empty for the usual one. Raises Invalid."""
    if not name:
        return ""
    number = signal_number(name)
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def stop_timeout(seconds: int | None) -> float | None:
    """None leaves it to the node; negative is without end."""
    if seconds is None:
        return None
    return float(seconds) if seconds >= 0 else ENDLESS_S


def _capabilities(names: Any, field: str) -> tuple[str, ...]:
    wanted = tuple(name.upper().removeprefix("CAP_") for name in words(names) or ())
    for name in wanted:
        if name not in CAPABILITIES:
            raise Invalid(f'invalid {field}: unknown capability: "CAP_{name}"', field=field)
    return wanted


def _security(host: Mapping[str, Any]) -> Row:
    """no_new_privileges, seccomp and masked_paths."""
    found: Row = {"no_new_privileges": False, "seccomp": "default"}
    for option in host["SecurityOpt"] or ():
        name, sign, value = option.partition("=") if "=" in option else option.partition(":")
        if name == "no-new-privileges":
            if sign and value not in ("true", "false"):
                raise Invalid(f"invalid --security-opt 2: {option!r}", field="SecurityOpt")
            found["no_new_privileges"] = value != "false"
        elif name == "seccomp" and value in ("unconfined", "builtin"):
            found["seccomp"] = "default" if value == "builtin" else value
        elif (name, value) not in (("label", "disable"), ("apparmor", "unconfined")):
            raise Invalid(f"SecurityOpt: {option!r} is not available in this cloud", field="SecurityOpt")
    found["masked_paths"] = _masked(host)
    return found


def _masked(host: Mapping[str, Any]) -> bool:
    """Both lists empty is without masks (systempaths=unconfined); lists of one's own are not available."""
    paths = [host["MaskedPaths"], host["ReadonlyPaths"]]
    if all(path is None for path in paths):
        return True
    if any(paths):
        field = "MaskedPaths" if paths[0] else "ReadonlyPaths"
        raise Invalid(f"{field}: lists of one's own are not available in this cloud", field=field)
    return False


def _sysctls(wanted: Mapping[str, str]) -> dict[str, str]:
    for name in wanted:
        if not _SYSCTL.fullmatch(name):
            raise Invalid(f'sysctl "{name}" is not in a separate kernel namespace', field="Sysctls")
    return dict(wanted)


def _ulimit(each: Mapping[str, Any]) -> Ulimit:
    if each["Soft"] > each["Hard"] >= 0:
        message = f"ulimit soft limit must be less than or equal to hard limit: {each['Soft']} > {each['Hard']}"
        raise Invalid(message, field="Ulimits")
    return Ulimit(each["Name"], each["Soft"], each["Hard"])


def _shm(size: int) -> int:
    if size < 0:
        raise Invalid("SHM size can not be less than 0", field="ShmSize")
    return size or SHM_BYTES


def _extra_hosts(entries: Any) -> tuple[str, ...]:
    for entry in entries:
        name, _, address = entry.partition(":")
        if address == "host-gateway":
            raise Invalid("ExtraHosts: host-gateway is not available in this cloud: containers reach no host", field="ExtraHosts")
        try:
            ipaddress.ip_address(address.strip("[]"))
        except ValueError:
            raise Invalid(f'invalid IP address in add-host: "{address}"', field="ExtraHosts") from None
        if not name:
            raise Invalid(f'bad format for add-host: "{entry}"', field="ExtraHosts")
    return tuple(entries)


def _addresses(entries: Any) -> tuple[str, ...]:
    for entry in entries:
        try:
            ipaddress.ip_address(entry)
        except ValueError:
            raise Invalid(f"invalid IP address: {entry}", field="Dns") from None
    return tuple(entries)


def restart_of(host: Mapping[str, Any]) -> Restart:
    """Raises Invalid."""
    policy = host["RestartPolicy"] or {"Name": "", "MaximumRetryCount": 0}
    name, count = policy["Name"] or "no", policy["MaximumRetryCount"]
    if name not in RESTART_NAMES:
        known = "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        raise Invalid(f"invalid restart policy: unknown policy '{name}'; {known}", field="RestartPolicy")
    if count < 0:
        raise Invalid("invalid restart policy: maximum retry count cannot be negative", field="RestartPolicy")
    if count and name != "on-failure":
        message = "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        raise Invalid(message, field="RestartPolicy")
    if name != "no" and host["AutoRemove"]:
        raise Invalid("can't create 'AutoRemove' container with restart policy", field="RestartPolicy")
    return Restart(name, count)  # type: ignore[arg-type]


def _health(check: Mapping[str, Any] | None, shell: list[str] | None) -> HealthCheck | None:
    if not check or not check.get("Test") or check["Test"][0] == "NONE":
        return None
    kind, *arguments = check["Test"]
    if kind == "CMD-SHELL" and shell and tuple(shell) != SHELL:
        kind, arguments = "CMD", [*shell, *arguments]
    if kind not in ("CMD", "CMD-SHELL") or not arguments:
        raise Invalid(f"unknown type {kind!r} of healthcheck in Test", field="Healthcheck")
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        if (value := check.get(name) or 0) and value < HEALTH_NS_MIN:
            raise Invalid(f"{name} in Healthcheck cannot be less than 1ms", field="Healthcheck")
    if (check.get("Retries") or 0) < 0:
        raise Invalid("Retries in Healthcheck cannot be negative", field="Healthcheck")
    return HealthCheck(
        test=(kind, *arguments),
        interval_s=(check.get("Interval") or 30 * NANO) / NANO,
        timeout_s=(check.get("Timeout") or 30 * NANO) / NANO,
        retries=check.get("Retries") or 3,
        start_period_s=(check.get("StartPeriod") or 0) / NANO,
        start_interval_s=(check.get("StartInterval") or 5 * NANO) / NANO,
    )


def _log(wanted: Mapping[str, Any]) -> Row:
    driver, options = wanted.get("Type") or "json-file", wanted.get("Config") or {}
    if driver not in ("json-file", "none"):
        raise Invalid(f"logger: no log driver named '{driver}' is registered", field="LogConfig")
    for name in options:
        if driver == "none" or name not in ("max-size", "max-file"):
            raise Invalid(f"unknown log opt '{name}' for {driver} log driver", field="LogConfig")
    if not options:
        return {"log_driver": driver}
    files = options.get("max-file", "1")
    if not files.isdigit() or int(files) < 1:
        raise Invalid(f"invalid value for 'max-file': {files}", field="LogConfig")
    size = size_bytes(options["max-size"], "LogConfig") if "max-size" in options else LOG_BYTES
    return {"log_driver": driver, "log_bytes_max": min(LOG_BYTES_MAX, max(LOG_BYTES, size * int(files)))}


def size_bytes(text: str, field: str) -> int:
    """10m, 1g, 512: to bytes. Raises Invalid naming the field."""
    found = re.fullmatch(r"([0-9]+)\s?([bkmg]?)(i?b)?", text.lower())
    if not found:
        raise Invalid(f"invalid size: '{text}'", field=field)
    return int(found[1]) * _SIZES[found[2]]


def _device(each: Mapping[str, Any]) -> str:
    parts = (each["PathOnHost"], each["PathInContainer"] or each["PathOnHost"], each["CgroupPermissions"] or "rwm")
    return ":".join(parts)
