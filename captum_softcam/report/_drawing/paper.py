"""Pages that are written in points from the upper left corner, with text that is measured and cut to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path

from captum_softcam._figures import Drawing
from captum_softcam._names import shown

__all__ = ["CAPTION", "GREY", "LINE", "MARGIN", "SMALL", "Cell", "Page"]

MARGIN = 42.0  # points
CAPTION, SMALL = 9.0, 8.0  # points: nothing is smaller than 8, to be legible in print
LINE = 1.3  # height of a line, as a multiple of its size
GREY = "#444444"

_RULE = "#999999"


class Page:
    """A page that is written in points from its upper left corner.

    Args:
        figsize (tuple of float): in inches.
    """

    def __init__(self, figsize: tuple[float, float]) -> None:
        self.figure = Drawing(figsize=figsize, facecolor="white")
        self.width, self.height = (72 * side for side in figsize)
        self.inner = self.width - 2 * MARGIN
        self._advances: dict[tuple[str, bool], float] = {}

    def write(
        self, words: str, x: float, y: float, size: float, *, bold: bool = False, colour: str = "black", align: str = "left"
    ) -> float:
        """Write one line below ``y``, and return where it ends."""
        self.figure.text(
            x / self.width,
            1 - (y + size) / self.height,
            words,
            fontsize=size,
            fontweight="bold" if bold else "normal",
            color=colour,
            ha=align,
            va="baseline",
            parse_math=False,
            usetex=False,
        )
        return x + self.measured(words, size, bold)

    def lines(self, lines: Sequence[str], x: float, y: float, size: float, **look: Any) -> float:
        """Write lines one below the other, and return the height at which they end."""
        for line in lines:
            self.write(line, x, y, size, **look)
            y += LINE * size
        return y

    def paragraph(
        self,
        words: str,
        x: float,
        y: float,
        width: float,
        size: float,
        *,
        most: int,
        bold: bool = False,
        colour: str = "black",
    ) -> float:
        """Write words in at most ``most`` lines, cut in their middle, and return the height at which they end."""
        return self.lines(self.wrapped(words, width, size, most, bold), x, y, size, bold=bold, colour=colour)

    def wrapped(self, words: str, width: float, size: float, most: int = 99, bold: bool = False) -> list[str]:
        """Split words into lines of a width; words that are too long are split, too."""
        lines, length = self._split(words, width, size, bold), len(words)
        while len(lines) > most:
            length = int(0.97 * length)
            lines = self._split(shown(words, length), width, size, bold)
        return lines

    def cut(self, words: str, width: float, size: float, bold: bool = False) -> str:
        """Return words on one line of a width."""
        return self.wrapped(words, width, size, 1, bold)[0]

    def measured(self, words: str, size: float, bold: bool = False) -> float:
        """Return the width of a line."""
        return size * sum(self._advance(sign, bold) for sign in words)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return axes without ticks."""
        place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place, facecolor="white")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color="black", linewidth=0.8)  # whatever the style of the user
        return axes

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fill a box."""
        corner = x / self.width, 1 - (y + height) / self.height
        self.figure.add_artist(Rectangle(corner, width / self.width, height / self.height, color=colour, linewidth=0))

    def rule(self, y: float) -> None:
        """Draw a line across the page."""
        self.box(MARGIN, y, self.inner, 0.5, _RULE)

    def stroke(self, x: float, y: float, colour: str, style: Literal["solid", "dashed"]) -> float:
        """Draw a piece of a line of an overlay, as a key, and return where words on it begin."""
        height = 1 - (y + 0.62 * SMALL) / self.height
        line = Line2D([x / self.width, (x + 22) / self.width], [height] * 2, color=colour, linestyle=style, linewidth=1.3)
        line.set_path_effects([withStroke(linewidth=2.9, foreground="black")])
        self.figure.add_artist(line)
        return x + 27

    def _advance(self, sign: str, bold: bool) -> float:
        """Return the width of a character between others, at a size of 1; kerning is left out, so that each counts once."""
        if (sign, bold) not in self._advances:
            font = FontProperties(size=100, weight="bold" if bold else "normal")
            within, without = (
                text_to_path.get_text_width_height_descent(words, font, ismath=False)[0] for words in (f"n{sign}n", "nn")
            )
            self._advances[sign, bold] = (within - without) / 100
        return self._advances[sign, bold]

    def _split(self, words: str, width: float, size: float, bold: bool) -> list[str]:
        lines = [""]
        for word in words.split(" "):
            longer = f"{lines[-1]} {word}".strip(" ")
            if self.measured(longer, size, bold) <= width:
                lines[-1] = longer
                continue
            lines += [""] if lines[-1] else []
            while self.measured(word, size, bold) > width and len(word) > 1:
                fitting = self._fitting(word, width, size, bold)
                lines[-1:] = [word[:fitting], ""]
                word = word[fitting:]
            lines[-1] = word
        return lines

    def _fitting(self, word: str, width: float, size: float, bold: bool) -> int:
        """Return how many characters of a word fit into a width, at least one."""
        low, high = 1, len(word)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.measured(word[:middle], size, bold) <= width else (low, middle - 1)
        return low


class Cell:
    """A picture with a caption above and a note below, in a box of a page.

    Args:
        page (Page): the page.
        place (tuple of float): upper left corner in points.
        size (tuple of float): of the box.
        ratio (float): width of the picture over its height.
        caption (str): above the picture.
        rows (int): lines of the caption; a shorter one sits on its picture.
        note (str): below it. Default: none
    """

    def __init__(
        self,
        page: Page,
        place: tuple[float, float],
        size: tuple[float, float],
        ratio: float,
        caption: str,
        rows: int,
        note: str = "",
    ) -> None:
        x, y = place
        wide, y = self.width(ratio, *size, rows), y + LINE * CAPTION * rows
        lines = page.wrapped(caption, size[0], CAPTION, rows, bold=True)
        page.lines(lines, x, y - LINE * CAPTION * len(lines), CAPTION, bold=True)
        self.page, self.place = page, (x, y + 2, wide, wide / ratio)
        self.end = y + 2 + wide / ratio + LINE * SMALL + 2
        if note:
            page.paragraph(note, x, self.end - LINE * SMALL, size[0], SMALL, most=1, colour=GREY)

    @staticmethod
    def width(ratio: float, width: float, height: float, rows: int) -> float:
        """Return the width of a picture in a box, below a caption of some lines."""
        return min(width, ratio * max(20.0, height - LINE * (CAPTION * rows + SMALL) - 4))

    def axes(self) -> Axes:
        """Return the axes of the picture."""
        return self.page.axes(*self.place)
