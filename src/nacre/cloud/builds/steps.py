"""What each instruction does to the image so far. Source: https://docs.docker.com/reference/dockerfile/ and moby's dispatchers."""

import asyncio
import json
import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from nacre.cloud.builds import copying, stages, words
from nacre.cloud.builds import dockerfile as parsing
from nacre.cloud.builds.arguments import Arguments
from nacre.cloud.builds.copying import Copy, Source
from nacre.cloud.builds.dockerfile import Instruction
from nacre.cloud.builds.running import Runner
from nacre.cloud.builds.stages import Images, State
from nacre.cloud.builds.trees import Tree
from nacre.cloud.errors import Invalid
from nacre.cloud.image import changes
from nacre.cloud.image.rules import Row

NOP = "/bin/sh -c #(nop) "
_FETCHED = ("http://", "https://")
_REMOTE = (*_FETCHED, "ftp://", "git://", "git@", "ssh://")
FETCHED_MODE = 0o600


class Building(Protocol):
    """What the steps need of the build."""

    images: Images
    arguments: Arguments
    runner: Runner
    escape: str
    no_cache: bool

    async def say(self, text: str) -> None: ...

    async def download(self, url: str, target: Path) -> int:
        """Fetch a file. Returns when it was changed last (0: nobody said). Raises Invalid."""

    async def source(self, name: str) -> Tree:
        """The file system of --from: a stage's, or an image's. Raises Invalid, NotFound."""

    @property
    def context(self) -> Tree: ...


@dataclass
class Stage:
    """One stage while it is built."""

    state: State
    name: str = ""
    has_cmd: bool = False
    """Whether CMD was given here: ENTRYPOINT sets the base's aside."""


@dataclass(frozen=True)
class Step:
    """An instruction in its place."""

    build: Building
    stage: Stage
    instruction: Instruction
    settings: Row

    @property
    def env(self) -> dict[str, str]:
        return dict(entry.partition("=")[::2] for entry in self.settings.get("Env") or [])

    def expand(self, text: str) -> str:
        env = self.env
        return words.expand(text, {**self.build.arguments.seen(env), **env}, self.build.escape)

    def expand_text(self, text: str) -> str:
        """The variables of a here-document."""
        env = self.env
        return words.expand_text(text, {**self.build.arguments.seen(env), **env}, self.build.escape)

    def words(self) -> list[str]:
        return words.split(self.instruction.text, self.build.escape)

    def pairs(self) -> list[tuple[str, str]]:
        """`A=b C="d e"`, or the old form `A the rest`, with the variables replaced. Raises Invalid."""
        name, text = self.instruction.name, self.instruction.text
        found = self.words()
        if "=" not in found[0]:
            key, _, rest = text.partition(" ")
            if not rest.strip():
                raise Invalid(f"{name} must have two arguments")
            return [(self.expand(key), self.expand(rest.strip()))]
        made = []
        for word in found:
            key, equals, value = word.partition("=")
            if not equals:
                raise Invalid(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
            made.append((self.expand(key), self.expand(value)))
        if any(not key for key, _ in made):
            raise Invalid(f"{name} names can not be blank")
        return made


async def step(build: Building, stage: Stage, instruction: Instruction) -> None:
    """Do what the instruction says. Raises Invalid, and whatever a container meets."""
    doing = Step(build, stage, instruction, stage.state.settings)
    await STEPS[instruction.name](doing)


async def _finish(doing: Step, key: str, make: Callable[[], Awaitable[State]]) -> None:
    """The step's image: out of the cache, or made now."""
    build, stage = doing.build, doing.stage
    known = None if build.no_cache else build.images.cached(stage.state, key)
    if known is not None:
        await build.say(" ---> Using cache\n")
        stage.state = known
    else:
        stage.state = await make()
    await build.say(f" ---> {short(stage.state)}\n")


def short(state: State) -> str:
    return state.docker_id.removeprefix("sha256:")[:12]


async def _note(doing: Step, shown: str, author: str | None = None) -> None:
    """A step that changes settings alone."""
    created_by, settings, images = f"{NOP} {shown}", doing.settings, doing.build.images
    key = stages.key_of(created_by, settings)
    parent = doing.stage.state

    async def make() -> State:
        return images.add(parent, key, settings, created_by, author=author)

    await _finish(doing, key, make)


async def _env(doing: Step) -> None:
    pairs = doing.pairs()
    doing.settings["Env"] = [f"{key}={value}" for key, value in {**doing.env, **dict(pairs)}.items()]
    await _note(doing, "ENV " + " ".join(f"{key}={value}" for key, value in pairs))


async def _label(doing: Step) -> None:
    pairs = doing.pairs()
    doing.settings["Labels"] = {**(doing.settings.get("Labels") or {}), **dict(pairs)}
    await _note(doing, "LABEL " + " ".join(f"{key}={value}" for key, value in pairs))


async def _arg(doing: Step) -> None:
    for word in doing.words():
        name, equals, value = word.partition("=")
        name = doing.expand(name)
        if not name:
            raise Invalid("ARG names can not be blank")
        doing.build.arguments.declare(name, doing.expand(value) if equals else None)
    await _note(doing, f"ARG {doing.instruction.text}")


async def _plain(doing: Step) -> None:
    """Instructions whose text is taken as it is."""
    name, text = doing.instruction.name, doing.instruction.text
    changes.one(doing.settings, f"{name} {text}")
    shown = {"CMD": "Cmd", "ENTRYPOINT": "Entrypoint"}.get(name)
    if name == "CMD":
        doing.stage.has_cmd = True
    elif name == "ENTRYPOINT" and not doing.stage.has_cmd:
        doing.settings["Cmd"] = None
    await _note(doing, f"{name} {json.dumps(doing.settings[shown]) if shown else text}")


async def _on_build(doing: Step) -> None:
    parsing.instruction(doing.instruction.text, doing.instruction.line)
    await _plain(doing)


async def _expose(doing: Step) -> None:
    ports = [port for word in doing.words() for port in doing.expand(word).split()]
    changes.one(doing.settings, f"EXPOSE {' '.join(ports)}")
    await _note(doing, f"EXPOSE {' '.join(ports)}")


async def _volume(doing: Step) -> None:
    exact = changes.argv(doing.instruction.text)
    names = [doing.expand(word) for word in (doing.words() if exact is None else exact)]
    if not all(names):
        raise Invalid("VOLUME specified can not be an empty string")
    doing.settings["Volumes"] = {**(doing.settings.get("Volumes") or {}), **{name: {} for name in names}}
    await _note(doing, f"VOLUME {json.dumps(names)}")


async def _user(doing: Step) -> None:
    doing.settings["User"] = doing.expand(doing.instruction.text)
    await _note(doing, f"USER {doing.settings['User']}")


async def _stop_signal(doing: Step) -> None:
    doing.settings["StopSignal"] = doing.expand(doing.instruction.text)
    await _note(doing, f"STOPSIGNAL {doing.settings['StopSignal']}")


async def _maintainer(doing: Step) -> None:
    await _note(doing, f"MAINTAINER {doing.instruction.text}", author=doing.instruction.text)


async def _workdir(doing: Step) -> None:
    """The folder is made where it is not there."""
    path = posixpath.normpath(posixpath.join("/", doing.settings.get("WorkingDir") or "/", doing.expand(doing.instruction.text)))
    doing.settings["WorkingDir"] = path = "/" + path.lstrip("/")
    created_by, settings, images = f"{NOP} WORKDIR {path}", doing.settings, doing.build.images
    key, parent = stages.key_of(created_by, settings), doing.stage.state

    async def make() -> State:
        tree = await images.tree(parent)
        if tree.get(tree.resolve(path)) is not None:
            return images.add(parent, key, settings, created_by)
        out = images.new_file()
        await asyncio.to_thread(copying.folder, tree, path, out)
        return images.add(parent, key, settings, created_by, await images.keep_layer(out))

    await _finish(doing, key, make)


async def _copy(doing: Step) -> None:
    copy, flags = await _what(doing)
    created_by = f"{NOP}{copy.verb} {flags}{await asyncio.to_thread(copying.digest, copy)} in {copy.target} "
    settings, images, parent = doing.settings, doing.build.images, doing.stage.state
    key = stages.key_of(created_by, [source.name for source in copy.sources] if copy.verb == "ADD" else [])

    async def make() -> State:
        out = images.new_file()
        await asyncio.to_thread(copying.write, copy, await images.tree(parent), out, images.scratch)
        return images.add(parent, key, settings, created_by, await images.keep_layer(out))

    await _finish(doing, key, make)


async def _what(doing: Step) -> tuple[Copy, str]:
    """The copy that is asked for, and its flags as they are shown. Raises Invalid."""
    verb, flags = doing.instruction.name, doing.instruction.flags
    exact = changes.argv(doing.instruction.text)
    documents = {each.word for each in doing.instruction.documents}
    names = [word if word in documents else doing.expand(word) for word in (doing.words() if exact is None else exact)]
    if len(names) < 2:
        raise Invalid(f"{verb} requires at least two arguments, but only one was provided. Destination could not be determined.")
    *sources, target = names
    tree = await doing.build.source(doing.expand(flags["from"])) if "from" in flags else doing.build.context
    found = [each for name in sources for each in await _sources(doing, verb, tree, name, target)]
    if not found:
        raise Invalid(f"{verb} failed: no source files were specified")
    folder = target.endswith("/") or posixpath.basename(target) in (".", "..", "")
    whole = posixpath.normpath(posixpath.join("/", doing.settings.get("WorkingDir") or "/", target))
    whole = "/" + whole.lstrip("/")
    chown = doing.expand(flags.get("chown", ""))
    mode = copying.mode_of(doing.expand(flags.get("chmod", "")))
    copy = Copy(
        verb,
        tuple(found),
        f"{whole.rstrip('/')}/" if folder else whole,
        chown,
        mode,
    )
    if (len(sources) > 1 or len(found) > 1) and not folder:
        raise Invalid(f"When using {verb} with more than one source file, the destination must be a directory and end with a /")
    shown = [f"--{name}={value}" for name, value in (("chown", chown), ("chmod", flags.get("chmod", ""))) if value]
    return copy, "".join(f"{flag} " for flag in shown)


async def _sources(doing: Step, verb: str, tree: Tree, name: str, target: str) -> list[Source]:
    """What one source of COPY or ADD means. Raises Invalid."""
    document = next((each for each in doing.instruction.documents if each.word == name), None)
    if document is not None:
        path = doing.build.images.new_file()
        text = doing.expand_text(document.text) if document.expands else document.text
        await asyncio.to_thread(path.write_text, text)
        return [copying.written(path, document.name)]
    if verb == "ADD" and name.startswith(_REMOTE):
        if not name.startswith(_FETCHED):
            raise Invalid(f"ADD of {name} is not available: the builder fetches http and https; RUN a client that does")
        file = posixpath.basename(urlsplit(name).path)
        if target.endswith("/") and not file:
            raise Invalid(f"cannot determine filename for source {name}")
        path = doing.build.images.new_file()
        mtime = await doing.build.download(name, path)
        return [copying.written(path, file or "file", mode=FETCHED_MODE, mtime=mtime)]
    chosen = await asyncio.to_thread(copying.choose, verb, tree, [name])
    return [Source(tree, path, called, unpacks=verb == "ADD") for path, called in chosen]


async def _run(doing: Step) -> None:
    build, images, settings, parent = doing.build, doing.build.images, doing.settings, doing.stage.state
    if not parent.docker_id:
        raise Invalid("RUN needs an image: there is nothing in `scratch` that could run")
    argv = _argv(doing.instruction, settings)
    env = doing.env
    declared = build.arguments.declared(env)
    noted = [f"{name}={value}" for name, value in sorted(declared.items())]
    created_by = " ".join([*([f"|{len(noted)}", *noted] if noted else []), *argv])
    key = stages.key_of("RUN", created_by, argv, noted)
    given = [f"{name}={value}" for name, value in build.arguments.seen(env).items()]

    async def make() -> State:
        await images.flush()
        layer = await build.runner.run(parent.docker_id, argv, given, " ".join(argv), images.intake, build.say)
        return images.add(parent, key, settings, created_by, layer)

    await _finish(doing, key, make)


def _argv(instruction: Instruction, settings: Row) -> list[str]:
    """A here-document alone is the shell's script; beside other words the shell reads it itself. Raises Invalid."""
    documents = instruction.documents
    if len(documents) == 1 and instruction.text == documents[0].word:
        if documents[0].text.startswith("#!"):
            raise Invalid(
                "RUN of a here-document with an interpreter of its own (#!) is not available: call the interpreter with it"
            )
        return [*(settings.get("Shell") or changes.SHELL), documents[0].text]
    return changes.command(settings, "\n".join([instruction.text, *(each.raw for each in documents)]))


STEPS: dict[str, Callable[[Step], Awaitable[None]]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _plain,
    "COPY": _copy,
    "ENTRYPOINT": _plain,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _plain,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _plain,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
"""All but FROM, which the build itself obeys."""
