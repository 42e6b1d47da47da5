"""Transfers to and from other registries, by skopeo as a process of the API's user: bounded in time and size, credentials in a file.

An image travels as a `dir:` folder (containers-transports(5)): manifest.json, and the config and each layer under the hex of its digest;
the manifest's bytes stay what they are.
"""

import asyncio
import base64
import binascii
import ipaddress
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from nacre.cloud.core import Settings
from nacre.cloud.errors import CloudError, Invalid, NotFound, TooLarge, Unauthorized, Unavailable
from nacre.cloud.image.references import Reference
from nacre.panes.docker import egress

TRANSFER_S_MAX = 3600.0
STALL_S_MAX = 120.0
"""A registry that sends and takes nothing for so long is given up."""
POLL_S = 0.25
LINE_BYTES_MAX = 64 * 1024
ERROR_BYTES_MAX = 16 * 1024
LOGIN_S_MAX = 60.0
TAGS_MAX = 1000
AUTH_BYTES_MAX = 64 * 1024
_MESSAGE = re.compile(r'msg="((?:[^"\\]|\\.)*)"')


class Credentials(msgspec.Struct, frozen=True):
    """X-Registry-Auth, decoded (Engine API, `AuthConfig`)."""

    username: str = ""
    password: str = ""
    auth: str = ""
    identitytoken: str = ""
    registrytoken: str = ""
    serveraddress: str = ""

    @property
    def entry(self) -> dict[str, str] | None:
        """What an auth file says of the registry (containers-auth.json(5)); None without credentials."""
        pair = self.auth or (base64.b64encode(f"{self.username}:{self.password}".encode()).decode() if self.username else "")
        entry = {"auth": pair} if pair else {}
        if self.identitytoken:
            entry["identitytoken"] = self.identitytoken
        return entry or None


def credentials(header: str | None) -> Credentials:
    """Raises Invalid."""
    if not header:
        return Credentials()
    try:
        data = base64.b64decode(header.encode()[:AUTH_BYTES_MAX] + b"==", altchars=b"-_")
        return msgspec.json.decode(data, type=Credentials)
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise Invalid(f"invalid X-Registry-Auth header: {error}") from None


class Transfer:
    """skopeo for one request: a scratch folder, and who asks."""

    def __init__(self, scratch: Path, who: Credentials, settings: Settings, check: Callable[[], None]) -> None:
        if who.registrytoken:
            raise Invalid("a registrytoken is not supported: use user and password, or an identitytoken")
        self._scratch = scratch
        self._who = who
        self._settings = settings
        self._check = check
        """Raises when nobody waits for the outcome any more."""

    async def fetch(self, reference: Reference, target: Path) -> AsyncIterator[str]:
        """Bring an image into the folder. Yields skopeo's lines (`Copying blob HEX`). Raises NotFound, TooLarge, CloudError."""
        options = [*self._options("src", reference), f"docker://{address(reference)}", f"dir:{target}"]
        async for line in self._run(["copy", *options], reference, target):
            yield line

    async def send(self, source: Path, reference: Reference) -> AsyncIterator[str]:
        """Send the image in the folder. The same."""
        options = [*self._options("dest", reference), f"dir:{source}", f"docker://{address(reference)}"]
        async for line in self._run(["copy", *options], reference, None):
            yield line

    async def tags(self, reference: Reference) -> list[str]:
        """The repository's tags, TAGS_MAX at most."""
        name = address(Reference(reference.repository), bare=True)
        command = ["list-tags", *self._options("", reference), f"docker://{name}"]
        text = "".join([line async for line in self._run(command, reference, None)])
        return [str(tag) for tag in json.loads(text).get("Tags") or []][:TAGS_MAX]

    async def inspect(self, reference: Reference) -> bytes:
        """The manifest's own bytes."""
        command = ["inspect", "--raw", *self._options("", reference), f"docker://{address(reference)}"]
        return "\n".join([line async for line in self._run(command, reference, None)]).encode()

    def _options(self, side: str, reference: Reference) -> list[str]:
        prefix = f"--{side}-" if side else "--"
        entry = self._who.entry
        options = [f"{prefix}tls-verify=false"] if is_loopback(reference.domain) else []
        if entry is None:
            return [*options, f"{prefix}no-creds"]
        path = self._scratch / "auth.json"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"auths": {reference.domain: entry}}, file)
        return [*options, f"{prefix}authfile" if side else "--authfile", str(path)]

    async def _run(self, command: list[str], reference: Reference, growing: Path | None) -> AsyncIterator[str]:
        async with egress.gate(self._settings.imports, self._settings.base_url) as gate:
            gate.check(reference.domain, loopback=is_loopback(reference.domain))
            async for line in self._through(gate, command, reference, growing):
                yield line

    async def _through(
        self, gate: egress.Gate, command: list[str], reference: Reference, growing: Path | None
    ) -> AsyncIterator[str]:
        process = await asyncio.create_subprocess_exec(
            *(_program(), "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64"),
            *("--tmpdir", str(self._scratch), *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(self._scratch, gate),
            limit=LINE_BYTES_MAX,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(_tail(process.stderr))
        watch = asyncio.create_task(self._watch(growing))
        try:
            async for line in self._lines(process.stdout, watch, reference):
                yield line
            await process.wait()
            if process.returncode:
                gate.complain()
                raise failure(await errors, reference)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            for task in (errors, watch):
                task.cancel()
            await asyncio.gather(errors, watch, return_exceptions=True)

    async def _lines(self, output: asyncio.StreamReader, watch: "asyncio.Task[None]", reference: Reference) -> AsyncIterator[str]:
        """Lines until the end; what the watch raises ends it sooner."""
        try:
            async with asyncio.timeout(TRANSFER_S_MAX):
                while True:
                    reading = asyncio.ensure_future(output.readline())
                    await asyncio.wait({reading, watch}, return_when=asyncio.FIRST_COMPLETED)
                    if watch.done():
                        reading.cancel()
                        await watch
                    line = await reading
                    if not line:
                        return
                    yield line.decode(errors="replace").rstrip()
        except TimeoutError:
            raise CloudError(f"{reference}: the transfer took longer than {TRANSFER_S_MAX:.0f} s and was given up") from None
        except ValueError:
            raise CloudError(f"{reference}: the registry's answer is not understood") from None

    async def _watch(self, growing: Path | None) -> None:
        """Ends only by raising: too large, no progress, or nobody who waits."""
        loop = asyncio.get_running_loop()
        moved_at, size = loop.time(), -1
        while True:
            await asyncio.sleep(POLL_S)
            self._check()
            if growing is None:
                continue
            found = await asyncio.to_thread(_tree_bytes, self._scratch)
            if found > self._settings.image_size_max_bytes:
                raise TooLarge(f"The image data is larger than the limit of {self._settings.image_size_max_bytes} bytes.")
            if found != size:
                moved_at, size = loop.time(), found
            elif loop.time() - moved_at > STALL_S_MAX:
                raise CloudError(f"the registry sent nothing for {STALL_S_MAX:.0f} s: the transfer was given up")


async def log_in(scratch: Path, settings: Settings, domain: str, user: str, password: str) -> None:
    """Whether the registry takes these credentials. The password goes by stdin. Raises Unauthorized in the registry's words, Forbidden."""
    verify = ["--tls-verify=false"] if is_loopback(domain) else []
    argv = [
        _program(),
        "login",
        *verify,
        "--authfile",
        str(scratch / "auth.json"),
        "--username",
        user,
        "--password-stdin",
        domain,
    ]
    pipe = asyncio.subprocess.PIPE
    async with egress.gate(settings.imports, settings.base_url) as gate:
        gate.check(domain, loopback=is_loopback(domain))
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=pipe, env=_environment(scratch, gate)
        )
        try:
            async with asyncio.timeout(LOGIN_S_MAX):
                _, errors = await process.communicate(password.encode())
        except TimeoutError:
            raise CloudError(f"the registry {domain} did not answer within {LOGIN_S_MAX:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            gate.complain()
            raise Unauthorized(f"login attempt to {domain} failed: {errors.decode(errors='replace').strip()[-500:]}")


def _program() -> str:
    found = shutil.which("skopeo")
    if found is None:
        raise Unavailable("skopeo is not installed on the API's machine: apt-get install skopeo")
    return found


def _environment(scratch: Path, gate: egress.Gate) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
    return {**kept, "HOME": str(scratch), "XDG_RUNTIME_DIR": str(scratch), **gate.environment}


def address(reference: Reference, bare: bool = False) -> str:
    """As skopeo takes it: with a tag or a digest, not both."""
    name = f"{reference.domain}/{reference.path}"
    if bare:
        return name
    return f"{name}@{reference.digest}" if reference.digest else f"{name}:{reference.tag or 'latest'}"


def is_loopback(domain: str) -> bool:
    """Registries on loopback may speak plain HTTP, as for Docker."""
    host = domain.rpartition(":")[0] if re.search(r":\d+$", domain) else domain
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _tree_bytes(root: Path) -> int:
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


async def _tail(stream: asyncio.StreamReader) -> str:
    kept = b""
    while chunk := await stream.read(4096):
        kept = (kept + chunk)[-ERROR_BYTES_MAX:]
    return kept.decode(errors="replace")


def failure(text: str, reference: Reference) -> CloudError:
    """skopeo's last words as Docker would say it."""
    found: list[Any] = _MESSAGE.findall(text)
    message = found[-1].replace('\\"', '"').replace("\\\\", "\\") if found else text.strip()[-1000:] or "skopeo was killed"
    name = str(reference)
    low = message.lower()
    if "manifest unknown" in low or "name unknown" in low or "name_unknown" in low:
        return NotFound(f"manifest for {name} not found: manifest unknown: manifest unknown", code="no_such_image")
    if "unauthorized" in low or "authentication required" in low or "denied" in low or "invalid username/password" in low:
        return NotFound(
            f"pull access denied for {reference.repository}, repository does not exist or may require 'docker login': {message}",
            code="denied",
        )
    return CloudError(f"{name}: {message}")
