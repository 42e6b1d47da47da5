"""One build: the Dockerfile's stages in order, up to the one that is wanted.

Whatever ends it (the last step, a command that fails, a client that has gone), its containers go, and so does what it kept in the spool.
What it made stays as the cache, unless its client has gone: then that goes too.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from nacre.cloud.builds import dockerfile as parsing
from nacre.cloud.builds import steps, words
from nacre.cloud.builds.arguments import Arguments
from nacre.cloud.builds.context import BuildContext
from nacre.cloud.builds.dockerfile import Instruction
from nacre.cloud.builds.running import Runner, Template
from nacre.cloud.builds.stages import SCRATCH, Images, State
from nacre.cloud.builds.steps import Stage
from nacre.cloud.builds.trees import Tree
from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Invalid, NotFound, Unavailable
from nacre.cloud.image import contents, data, inventory, layered, references
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.references import Reference
from nacre.cloud.processes import unfinished
from nacre.store.schema import new_id

log = logging.getLogger("nacre.builds")

BUILDS_MAX = 4
"""Builds of one project at once."""
TRIGGERS_MAX = 100
"""ONBUILD instructions of one image."""
KIND = "build"
"""Of what is unfinished while a build is at work."""


@dataclass(frozen=True)
class Options:
    """What the client asks for, already read."""

    names: tuple[Reference, ...] = ()
    arguments: dict[str, str | None] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    pull: bool = False


class Output(Protocol):
    """Where the build's words go. Raises when nobody listens any more."""

    def __call__(self, text: str) -> Awaitable[None]: ...


Fetch = Callable[[str], Awaitable[None]]
"""Bring an image of that name here, from its registry. Raises NotFound and what the registry says."""


class Download(Protocol):
    """Where ADD gets a URL from. Returns when it was changed last, as seconds since the epoch (0: nobody said). Raises Invalid."""

    def __call__(self, url: str, target: Path) -> Awaitable[int]: ...


def require_room(conn: sa.Connection, project_id: str) -> None:
    """Raises Unavailable."""
    if unfinished.count(conn, KIND, project_id) >= BUILDS_MAX:
        raise Unavailable(f"{BUILDS_MAX} builds of the project are at work: wait for one to end")


def _begin(conn: sa.Connection, process_id: str, ident: str, project_id: str) -> None:
    require_room(conn, project_id)
    unfinished.begin(conn, process_id, KIND, ident, project_id)


class Build:
    """See the module. Belongs to one task."""

    def __init__(
        self,
        cloud: Cloud,
        ctx: Context,
        context: BuildContext,
        options: Options,
        template: Template,
        say: Output,
        fetch: Fetch,
        download: Download,
    ) -> None:
        self.ident = new_id()
        self.cloud, self.ctx, self.options = cloud, ctx, options
        self.arguments = Arguments(options.arguments)
        self.runner = Runner(cloud, ctx, self.ident, template)
        self.escape, self.no_cache = context.dockerfile.escape, options.no_cache
        self.images: Images
        self._context, self._say, self._fetch, self._download = context, say, fetch, download
        self._stages: list[Stage] = []

    @property
    def context(self) -> Tree:
        return self._context.tree

    async def say(self, text: str) -> None:
        await self._say(text)

    async def download(self, url: str, target: Path) -> int:
        await self.say(f"Downloading {url}\n")
        return await self._download(url, target)

    async def run(self, scratch: Path) -> State:
        """Returns the image. Raises CloudError; CommandFailed for a command's status."""
        assert self.ctx.project_id is not None
        done = False
        try:
            await self.cloud.store.write(_begin, self.cloud.process_id, self.ident, self.ctx.project_id)
            async with Intake(self.cloud) as intake:
                self.images = Images(self.cloud, self.ctx, intake, scratch)
                try:
                    state = await self._steps()
                    await self.images.flush()
                    await self._name(state)
                    await self.runner.settle()
                    done = True
                    return state
                except CloudError as error:
                    done = not getattr(error, "given_up", False)
                    if done:
                        await self.images.flush()
                    raise
                finally:
                    await asyncio.shield(self._end(done))
        finally:
            await asyncio.shield(unfinished.undo(self.cloud, unfinished.end, KIND, self.ident))

    async def _end(self, done: bool) -> None:
        await self.runner.close(wait=done)
        if done:
            return
        for docker_id in reversed(self.images.made):
            try:
                removed = await self.cloud.store.write(inventory.remove_made, self.ctx, docker_id)
            except CloudError:
                continue  # Somebody uses it already: then it is theirs.
            data.drop_all(self.cloud, removed.dropped)

    async def _steps(self) -> State:
        chosen = self._chosen()
        for number, instruction in enumerate(chosen, 1):
            await self.say(f"Step {number}/{len(chosen)} : {instruction.original}\n")
            if instruction.name == "FROM":
                await self._from(instruction)
            elif not self._stages:
                self._meta(instruction)
            else:
                await steps.step(self, self._stages[-1], instruction)
        if unused := self.arguments.unused():
            await self.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        state = self._stages[-1].state
        if not state.docker_id:
            raise Invalid("No image was generated. Is your Dockerfile empty?")
        return state

    def _chosen(self) -> list[Instruction]:
        """The instructions up to the end of the wanted stage. Raises Invalid."""
        given = list(self._context.dockerfile.instructions)
        starts = [index for index, each in enumerate(given) if each.name == "FROM"]
        if not starts or any(each.name != "ARG" for each in given[: starts[0]]):
            raise Invalid("no build stage in current context")
        chosen = given
        if self.options.target:
            names = [_stage_name(given[index]) for index in starts]
            wanted = self.options.target.lower()
            number = names.index(wanted) if wanted in names else int(wanted) if wanted.isdecimal() else len(names)
            if number >= len(names):
                raise Invalid(f"failed to reach build target {self.options.target} in Dockerfile")
            chosen = given[: [*starts, len(given)][number + 1]]
        if self.options.labels:
            quoted = " ".join(f"{_quoted(key)}={_quoted(value)}" for key, value in sorted(self.options.labels.items()))
            chosen = [*chosen, Instruction(0, "LABEL", quoted, {}, f"LABEL {quoted}")]
        return chosen

    def _meta(self, instruction: Instruction) -> None:
        for word in words.split(instruction.text, self.escape):
            name, equals, value = word.partition("=")
            self.arguments.declare_meta(name, words.expand(value, self.arguments.meta(), self.escape) if equals else None)

    async def _from(self, instruction: Instruction) -> None:
        parts = [words.expand(word, self.arguments.meta(), self.escape) for word in words.split(instruction.text, self.escape)]
        if len(parts) not in (1, 3) or (len(parts) == 3 and parts[1].lower() != "as"):
            raise Invalid("FROM requires either one or three arguments")
        platform = words.expand(instruction.flags.get("platform", ""), self.arguments.meta(), self.escape)
        if platform and platform.split("/")[:2] not in (["linux"], ["linux", "amd64"]):
            raise Invalid(f"no matching manifest for {platform}: the hosts are linux/amd64")
        if not parts[0]:
            raise Invalid(f"base name ({words.split(instruction.text, self.escape)[0]}) should not be blank")
        state = await self._base(parts[0])
        self.arguments.enter()
        stage = Stage(state, parts[2].lower() if len(parts) == 3 else "")
        self._stages.append(stage)
        await self.say(f" ---> {steps.short(state)}\n")
        await self._triggers(stage)

    async def _base(self, name: str) -> State:
        if name == "scratch":
            return SCRATCH
        for stage in self._stages:
            if stage.name and stage.name == name.lower():
                return stage.state
        return await self._image(name)

    async def _image(self, name: str) -> State:
        """Of the project, or fetched. Raises NotFound and what the registry says."""
        state = None if self.options.pull else await self.images.named(name)
        if state is None:
            await self._fetch(name)
            state = await self.images.named(name)
        if state is None:
            raise references.no_such_image(name)
        return state

    async def _triggers(self, stage: Stage) -> None:
        """What the base's ONBUILD asks for."""
        triggers = (stage.state.config.get("config") or {}).get("OnBuild") or []
        if not triggers:
            return
        if len(triggers) > TRIGGERS_MAX:
            raise Invalid(f"the image has more than {TRIGGERS_MAX} build triggers")
        await self.say(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}\n")
        # The image that the next step makes has none of them.
        config = {**stage.state.config, "config": {**stage.state.settings, "OnBuild": None}}
        stage.state = State(stage.state.docker_id, config, stage.state.layers)
        for text in triggers:
            await steps.step(self, stage, parsing.instruction(text))

    async def source(self, name: str) -> Tree:
        stages = self._stages[:-1]
        for stage in stages:
            if stage.name and stage.name == name.lower():
                return await self.images.tree(stage.state)
        if name.isdecimal():
            if int(name) >= len(stages):
                raise Invalid(f"invalid from flag value {name}: invalid stage index")
            return await self.images.tree(stages[int(name)].state)
        try:
            return await self.images.tree(await self._image(name))
        except NotFound as error:
            raise Invalid(f"invalid from flag value {name}: {error.message}") from None

    async def _name(self, state: State) -> None:
        row = self.cloud.store.read_now(references.find, self.ctx, state.docker_id)
        if row is None:
            raise NotFound(f"the image {state.docker_id} was removed while it was built")
        if self.options.names:
            content = await contents.of_image(self.cloud, row)
            await self.cloud.store.write(layered.add, self.ctx, content, self.options.names)


def _stage_name(instruction: Instruction) -> str:
    parts = instruction.text.split()
    return parts[2].lower() if len(parts) == 3 else ""


def _quoted(text: str) -> str:
    """As one word of a Dockerfile that no variable is read in."""
    escaped = text.replace("'", "'\"'\"'")
    return f"'{escaped}'"
