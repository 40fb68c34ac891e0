"""Who imports whom in the package, as a drawing, and what each part of it is for; both are read from the code.

The rows of the drawing are the layers of the import contract in ``pyproject.toml``. An arrow that follows from others is
left out: where A imports B and B imports C, none leads from A to C. Nothing here imports the package, nor Sphinx.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import combinations, permutations, product
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["arrows", "draw", "halves", "imports", "layers", "purposes", "reduced"]

_WIDTH, _ROW, _BOX, _CHARACTER = 480, 70, 30, 8.4

Graph = Mapping[str, set[str]]
Box = tuple[float, float, float]
Line = tuple[float, float, float, float]


def layers(project: Path) -> list[list[str]]:
    """The rows of the import contract, the highest first."""
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    return [[name.strip() for name in row.split("|")] for row in contract["layers"]]


def parts(package: Path) -> dict[str, list[Path]]:
    """The files of each module and folder at the top of a package."""
    found: dict[str, list[Path]] = {}
    for file in sorted(package.rglob("*.py")):
        found.setdefault(file.relative_to(package).parts[0].removesuffix(".py"), []).append(file)
    return {name: files for name, files in found.items() if name != "__init__"}


def imports(package: Path) -> dict[str, set[str]]:
    """Which parts of a package each of its parts imports, anywhere in its code."""
    known = parts(package)
    return {
        name: {each for file in files for each in _imported(file, package.name)} & {*known} - {name}
        for name, files in known.items()
    }


def _imported(file: Path, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name.split(".")[1] for name in names if name.startswith(f"{package}."))


def reduced(graph: Graph) -> dict[str, set[str]]:
    """A graph without circles, less the arrows that follow from others."""
    return {
        name: {each for each in below if not any(each in _reached(graph, other) for other in below)}
        for name, below in graph.items()
    }


def _reached(graph: Graph, name: str) -> set[str]:
    """What can be reached from a part, without itself."""
    return {each for below in graph[name] for each in {below, *_reached(graph, below)}}


def arrows(project: Path) -> list[tuple[str, str]]:
    """The arrows to draw.

    Raises:
        ValueError: if the contract does not name each part once, or an arrow does not lead down.
    """
    rows, graph = layers(project), imports(project / "captum_softcam")
    place = {name: number for number, row in enumerate(rows) for name in row}
    if {*place} != {*graph}:
        raise ValueError(f"the import contract and the package differ in {', '.join(sorted({*place} ^ {*graph}))}.")
    upwards = [f"{name} imports {each}" for name, below in graph.items() for each in below if place[each] <= place[name]]
    if upwards:
        raise ValueError(f"imports must lead down: {'; '.join(upwards)}.")
    return [(name, each) for name, below in reduced(graph).items() for each in sorted(below)]


def halves(rows: list[list[str]], lines: Sequence[tuple[str, str]]) -> list[tuple[list[list[str]], list[tuple[str, str]]]]:
    """Rows and arrows of two drawings: packages above a box for all private modules, and these by themselves."""
    private = {name for row in rows for name in row if name.startswith("_") and name != "__main__"}
    one = "private modules"
    above = dict.fromkeys((name, one if other in private else other) for name, other in lines if name not in private)
    kept = reduced({name: {to for other, to in above if other == name} for arrow in above for name in arrow})
    shown = [(name, to) for name, to in above if to in kept[name]]
    upper = [row for row in rows if not private.intersection(row)]
    lower = [row for row in rows if private.intersection(row)]
    return [([*upper, [one]], shown), (lower, [(name, to) for name, to in lines if name in private])]


def draw(rows: Sequence[Sequence[str]], lines: Sequence[tuple[str, str]]) -> str:
    """An SVG in the colours of the page around it."""
    boxes = _untangled(rows, lines)
    height = _ROW * len(rows) - _ROW + _BOX + 4
    words = "; ".join(f"{one} imports {other}" for one, other in lines)
    drawn = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" style="display:block;margin:1rem auto;width:100%;max-width:{_WIDTH}px"',
        f'role="img" aria-label="{escape(words)}">',
        '<defs><marker id="import-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>',
        '<g fill="none" stroke="currentColor" stroke-opacity="0.6" marker-end="url(#import-arrow)">',
        *(
            '<line x1="{:.0f}" y1="{:.0f}" x2="{:.0f}" y2="{:.0f}"/>'.format(*_line(boxes[one], boxes[to]))
            for one, to in lines
        ),
        '</g><g font-family="monospace" font-size="14" text-anchor="middle" fill="currentColor">',
        *(_labelled(name, *box) for name, box in boxes.items()),
        "</g></svg>",
    ]
    return "\n".join(drawn)


def _untangled(rows: Sequence[Sequence[str]], lines: Sequence[tuple[str, str]]) -> dict[str, Box]:
    """The boxes, rows in the order in which the fewest arrows cross; all are tried, some thousand in two seconds."""
    orders = product(*(permutations(row) for row in rows))
    return min(map(_boxes, orders), key=lambda boxes: _tangle(boxes, lines))


def _tangle(boxes: Mapping[str, Box], lines: Sequence[tuple[str, str]]) -> float:
    """Arrows that cross count one, arrows through a box four, and a little for their length."""
    drawn = [(one, to, _line(boxes[one], boxes[to])) for one, to in lines]
    crossings = sum(
        _cross(a, b) for (one, to, a), (other, at, b) in combinations(drawn, 2) if len({one, to, other, at}) == 4
    )
    hidden = sum(
        _cross(line, (left - 4, top + _BOX / 2, left + width + 4, top + _BOX / 2))
        for one, to, line in drawn
        for name, (left, top, width) in boxes.items()
        if name not in (one, to)
    )
    return crossings + 4 * hidden + sum(abs(line[2] - line[0]) for *_, line in drawn) / 1e4


def _cross(a: Line, b: Line) -> bool:
    def side(line: Line, x: float, y: float) -> bool:
        return (line[2] - line[0]) * (y - line[1]) > (line[3] - line[1]) * (x - line[0])

    return side(a, *b[:2]) != side(a, *b[2:]) and side(b, *a[:2]) != side(b, *a[2:])


def _boxes(rows: Sequence[Sequence[str]]) -> dict[str, Box]:
    """Left edge, top edge and width of each, the rows in the middle of the drawing."""
    boxes = {}
    for number, row in enumerate(rows):
        widths = [len(name) * _CHARACTER + 12 for name in row]
        gap = (_WIDTH - 4 - sum(widths)) / len(row)
        left = 2 + gap / 2
        for name, width in zip(row, widths, strict=True):
            boxes[name] = (left, 2.0 + number * _ROW, width)
            left += width + gap
    return boxes


def _line(one: Box, other: Box) -> Line:
    """From the middle below one box to the middle above another."""
    return one[0] + one[2] / 2, one[1] + _BOX, other[0] + other[2] / 2, other[1]


def _labelled(name: str, left: float, top: float, width: float) -> str:
    box = f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{_BOX}" rx="5"'
    style = 'style="fill:var(--color-background-primary,#fff);stroke:currentColor"'
    return f'{box} {style}/><text x="{left + width / 2:.0f}" y="{top + 20:.0f}">{escape(name)}</text>'


def purposes(project: Path) -> list[tuple[str, str]]:
    """Each part of the package, in the order of the contract, with the first sentence of its docstring."""
    files = parts(project / "captum_softcam")
    found = []
    for name in (name for row in layers(project) for name in row):
        text = ast.get_docstring(ast.parse(files[name][0].read_text(encoding="utf-8"))) or ""
        shown = f"{name}/" if files[name][0].name == "__init__.py" else f"{name}.py"
        found.append((shown, re.sub(r":\w+:`(.*?)`", r"``\1``", " ".join(text.split("\n\n")[0].split()))))
    return found
