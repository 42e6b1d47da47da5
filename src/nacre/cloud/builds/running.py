"""RUN: a container of the project, made of the image so far; what it changes is the next layer."""

import asyncio
import codecs
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import sqlalchemy as sa

from nacre.cloud.builds.tables import build_containers
from nacre.cloud.containers import create, lifecycle, lookup, waiting
from nacre.cloud.containers.specs import ContainerSpec
from nacre.cloud.context import Context
from nacre.cloud.core import Cloud, GuestStream
from nacre.cloud.errors import CloudError, NotFound
from nacre.cloud.image import manifests
from nacre.cloud.image.commits import layer_of
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.layered import Layer
from nacre.cloud.image.rules import Row
from nacre.protocol.streams import Channel
from nacre.store import StoreError
from nacre.store.schema import new_id, now

log = logging.getLogger("nacre.builds")

START_S_MAX = 330.0
"""How long a container may take to start; its transition's deadline comes before."""
LAST_WORDS_S_MAX = 30.0
"""What the process said last is waited for so long."""
REMOVE_S_MAX = 60.0
NO_HEALTH: Row = {"Test": ["NONE"]}

Say = Callable[[str], Awaitable[None]]


class CommandFailed(CloudError):
    """RUN's command ended with another status than 0."""

    def __init__(self, shown: str, code: int) -> None:
        super().__init__(f"The command '{shown}' returned a non-zero code: {code}")
        self.exit_code = code


@dataclass(frozen=True)
class Template:
    """What every container of the build is made with: the Engine API's bodies, whole."""

    config: Row
    host_config: Row
    networking_config: Row
    expressions: tuple[str, ...] = ()
    """What chooses the host, as in a container's Env."""


class Runner:
    """The containers of one build. What is left of them goes with `close`."""

    def __init__(self, cloud: Cloud, ctx: Context, build_id: str, template: Template) -> None:
        self._cloud, self._ctx, self._build_id, self._template = cloud, ctx, build_id, template
        self._live: set[str] = set()
        self._removing: list[asyncio.Task[None]] = []

    async def run(self, image: str, argv: list[str], env: list[str], shown: str, intake: Intake, say: Say) -> Layer:
        """The layer of what the command changed. Raises CommandFailed, and what making and starting a container raises."""
        server_id = await self._cloud.store.write(self._create, image, argv, env)
        self._live.add(server_id)
        row = self._cloud.store.read_now(waiting.row_of, server_id) or {}
        short = lookup.docker_id(server_id)[: create.SHORT_ID_LENGTH]
        await say(f" ---> Running in {short}\n")
        code = await self._watched(row, say)
        if code:
            raise CommandFailed(shown, code)
        stream = await self._cloud.hosts.open(row["host_id"], "commit", server_id, {"pause": False})
        blob = await intake.stream(layer_of(stream))
        self._live.discard(server_id)
        self._removing.append(asyncio.create_task(self._remove(server_id, wait=True)))
        await say(f"Removing intermediate container {short}\n")
        return Layer(blob.digest, blob.size, manifests.OCI_LAYER, blob.digest)

    def _own(self) -> Context:
        """Who asks, in a request of its own: a server has one action of each request."""
        return replace(self._ctx, request_id=f"req-{new_id()}")

    def _create(self, conn: sa.Connection, image: str, argv: list[str], env: list[str]) -> str:
        settings = self._cloud.settings
        template = self._template
        config = {
            **template.config,
            "Image": image,
            "Entrypoint": [],
            "Cmd": argv,
            "Env": [*env, *template.expressions],
            "Healthcheck": NO_HEALTH,
        }
        spec = ContainerSpec(
            name=None, config=config, host_config=template.host_config, networking_config=template.networking_config
        )
        server_id, _ = create.create(
            conn,
            self._own(),
            spec,
            alive=self._cloud.hosts.alive(),
            ratios=settings.ratios,
            facts=self._cloud.hosts.facts,
            strategy=settings.strategy,
        )
        conn.execute(build_containers.insert().values(server_id=server_id, build_id=self._build_id, created_at=now()))
        return server_id

    async def _watched(self, row: Row, say: Say) -> int:
        """Start the container and pass on what it says to its end. Returns its exit status."""
        server_id, hosts = row["id"], self._cloud.hosts
        sides = {"stdin": False, "stdout": True, "stderr": True, "logs": False}
        stream = await hosts.open(row["host_id"], "attach", server_id, sides)
        saying = asyncio.create_task(_pass_on(stream, say))
        try:
            await self._cloud.store.write(lifecycle.start, self._own(), server_id, hosts.alive())
            started = await waiting.settled(self._cloud, server_id, START_S_MAX)
            if not started:
                raise CloudError("the container of the build is gone, or its host does not answer")
            if started["fault"]:
                raise CloudError(f"failed to create task for container: {started['fault']}")
            pending = self._cloud.store.read_now(waiting.Wait, started, "not-running")
            end = asyncio.create_task(pending.until(self._cloud))
            try:
                # A client that has gone is told of by `say`: then the command is not waited for.
                await asyncio.wait((end, saying), return_when=asyncio.FIRST_COMPLETED)
                if saying.done():
                    saying.result()
                code = await end
            finally:
                end.cancel()
            async with asyncio.timeout(LAST_WORDS_S_MAX):
                await saying
            ended = self._cloud.store.read_now(waiting.row_of, server_id)
            if code is None or ended is None or ended["exit_code"] is None:
                # A command that was torn away has not succeeded: its layer must not get into the cache.
                raise CloudError("the command's container ended without a status")
            return code
        except TimeoutError:
            raise CloudError("the host keeps back what the command said last") from None
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
            await stream.close()

    async def _remove(self, server_id: str, wait: bool) -> None:
        try:
            await self._cloud.store.write(lifecycle.remove, self._own(), server_id, force=True)
            if wait:
                await waiting.removed(self._cloud, server_id, REMOVE_S_MAX)
        except NotFound:
            return
        except (CloudError, StoreError) as error:
            log.warning("container %s of build %s stays for the sweeper: %s", server_id, self._build_id, error)

    async def settle(self) -> None:
        """Until nothing is left of the containers that did their work."""
        await asyncio.gather(*self._removing)

    async def close(self, wait: bool) -> None:
        """Whatever happened: every container is told to go."""
        for server_id in list(self._live):
            await self._remove(server_id, wait)
        self._live.clear()


async def _pass_on(stream: GuestStream, say: Say) -> None:
    decoders = {channel: codecs.getincrementaldecoder("utf-8")("replace") for channel in (Channel.STDOUT, Channel.STDERR)}
    async for channel, payload in stream:
        text = decoders[channel].decode(payload)
        if text:
            await say(text)
