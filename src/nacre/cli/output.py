"""Lists for people and for programs: every list takes `-f`."""

import json
from collections.abc import Sequence
from typing import Any

import click

format_option = click.option("-f", "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; the last is not padded."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def emit_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))
