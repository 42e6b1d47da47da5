"""`nacre logs`."""

import time
from pathlib import Path

import click

from nacre.cli.state import opened, state_option

FOLLOW_EVERY_S = 0.2
READ_BYTES_MAX = 1 << 20
"""How far back a log is looked at for its last lines."""


@click.command()
@click.argument("which", metavar="[api|api-N|node|supervisor]", required=False)
@state_option
@click.option("-f", "--follow", is_flag=True, help="Go on showing new lines, until Ctrl-C.")
@click.option("-n", "--lines", "count", type=click.IntRange(0, 100_000), default=100, show_default=True)
def logs(which: str | None, directory: Path | None, follow: bool, count: int) -> None:
    """Show what the API and node processes logged."""
    state = opened(directory)
    cloud = state.load() or state.require()
    if which not in (None, *cloud.api_names, "node", "supervisor"):
        raise click.UsageError(f"{which}: there are {', '.join((*cloud.api_names, 'node', 'supervisor'))}")
    names = [which] if which else [*cloud.api_names, "node"]
    paths = {name: state.log_file(name) for name in names}
    positions: dict[str, int] = {}
    for name, path in paths.items():
        lines, positions[name] = last_lines(path, count)
        for line in lines:
            click.echo(line if which else f"{name}: {line}")
    try:
        while follow:
            for name, path in paths.items():
                lines, positions[name] = new_lines(path, positions[name])
                for line in lines:
                    click.echo(line if which else f"{name}: {line}")
            time.sleep(FOLLOW_EVERY_S)
    except KeyboardInterrupt:
        pass


def last_lines(path: Path, count: int) -> tuple[list[str], int]:
    """The last lines, and the position after them."""
    if not path.exists():
        return [], 0
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - READ_BYTES_MAX))
        lines = file.read(READ_BYTES_MAX).decode(errors="replace").splitlines()
        return lines[len(lines) - min(count, len(lines)) :], file.tell()


def new_lines(path: Path, position: int) -> tuple[list[str], int]:
    """Whole lines after a position; from the beginning when the log was cut."""
    if not path.exists():
        return [], 0
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = position if position <= size else 0
        file.seek(start)
        content = file.read(READ_BYTES_MAX)
    end = content.rfind(b"\n") + 1
    return content[:end].decode(errors="replace").splitlines(), start + end
