"""docs/benchmarks.md and its plots, from the results that were kept."""

import json
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, MARGIN = 640, 120, 30
BARS_MAX = 580
"""Where there are more samples, a bar stands for several."""
HEAD = """# Benchmarks

Made by `nacre bench --save docs` from the results in `docs/benchmarks/`; every figure was measured, on the machine that its conditions
describe. These machines are shared and noisy: compare ratios and medians.
"""


def render(folder: Path, order: list[str]) -> None:
    """Write the page and a plot for each result that has samples."""
    parts = [HEAD]
    for name in order:
        path = folder / "benchmarks" / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text())
        parts.append(section(record))
        if record["samples"]:
            (folder / "benchmarks" / f"{name}.svg").write_text(plot(record["samples"]))
            parts.append(f"![each sample of {record['title']}, in ms](benchmarks/{name}.svg)\n")
    # The notes are a document of their own, and a section of this one.
    extra = folder / "benchmarks" / "notes.md"
    if extra.exists():
        parts.append(f"#{extra.read_text()}")
    (folder / "benchmarks.md").write_text("\n".join(parts))


def section(record: dict[str, Any]) -> str:
    lines = [f"## {record['title']}", "", f"To reach: {record['reach']}.", "", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in record["values"].items()]
    conditions = ", ".join(f"{name} {value}" for name, value in record["conditions"].items())
    lines += ["", f"Conditions: {conditions}.", ""]
    if record["note"]:
        lines += [record["note"], ""]
    return "\n".join(lines)


def plot(samples: list[float]) -> str:
    """The samples in the order in which they were taken, as bars from zero; of many, the greatest of each few."""
    top = max(samples) or 1.0
    few = -(-len(samples) // BARS_MAX)
    shown = [max(samples[first : first + few]) for first in range(0, len(samples), few)]
    step = (WIDTH - 2 * MARGIN) / len(shown)
    bars = []
    for index, sample in enumerate(shown):
        height = sample / top * (HEIGHT - 2 * MARGIN)
        bars.append(
            f'<rect x="{MARGIN + index * step:.1f}" y="{HEIGHT - MARGIN - height:.1f}" '
            f'width="{max(step - 1, 0.5):.1f}" height="{height:.1f}" fill="#3b7a8c"/>'
        )
    axis = f'<line x1="{MARGIN}" y1="{HEIGHT - MARGIN}" x2="{WIDTH - MARGIN}" y2="{HEIGHT - MARGIN}" stroke="#555"/>'
    label = f'<text x="{MARGIN}" y="{MARGIN - 10}" font-family="sans-serif" font-size="12">max {top:.1f} ms, n = {len(samples)}</text>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">{axis}{label}{"".join(bars)}</svg>\n'
