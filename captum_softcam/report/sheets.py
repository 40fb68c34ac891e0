"""Sheets: one page for one picture with its map, the prediction and what both say, to print or to file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from torch import Tensor

from captum_softcam._figures import saving
from captum_softcam._files import check_new_file, new_folder, refuse_taken, replacing
from captum_softcam._fit import Fit
from captum_softcam._names import closest, listed, named, quoted, shown
from captum_softcam.data import Sample
from captum_softcam.data.samples import UNKNOWN
from captum_softcam.evaluation import Comparison, Example
from captum_softcam.evaluation.controls import CONTROLS, method_title
from captum_softcam.report._drawing.axes import OUTLINE
from captum_softcam.report._drawing.paper import CAPTION, GREY, LINE, MARGIN, SMALL, Cell, Page
from captum_softcam.report._drawing.pictures import Drawn, as_input, drawn, fitting_mask, numbers, put_back
from captum_softcam.report.findings import are_probable, class_name, findings, kind_of, several_classes, value_text
from captum_softcam.report.overlays import LEVELS, Look, colour_bar, draw_input, draw_overlay

__all__ = ["A4", "plot_sheet", "write_sheet", "write_sheets"]

A4 = (210 / 25.4, 297 / 25.4)
"""Width and height of a sheet of paper in inches."""

_DISCLAIMER = "Research software, not a medical device."
_LEAST = (8.0, 8.0)  # inches, of a page on which everything is legible
_GAP = 18.0  # points
_NAME, _TEXT, _VALUE = 14.0, 10.0, 20.0  # points
_ROW, _BAR = 25.0, 7.5  # points, of a class and of its bar
_CLASSES, _MOST = 5, 8  # classes that are listed, and at most where several are above 0.5
_LEGEND = 14.0  # points, of the row that explains colours and lines
_PICTURES = 0.62  # of the height that pictures and prediction share
_SIDE = 800  # pixels of an original that is printed: 240 to the inch, and a file that can be sent
_ALIKE = 0.8  # least correlation of the original, read again, with what the network saw
_FORMATS = ("pdf", "svg", "png")
# Text stays text: in PDF as embedded glyphs with their characters, because TrueType takes ten times as long to embed; in SVG
# with the names of the fonts. The salt makes the ids of an SVG the same each time.
_SAVED: Any = {"pdf.fonttype": 3, "svg.fonttype": "none", "svg.hashsalt": "captum_softcam", "savefig.bbox": None}
_UNDATED: Any = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def plot_sheet(
    example: Example,
    classes: Sequence[str] | None = None,
    *,
    method: str | None = None,
    facts: Mapping[str, object] | None = None,
    original: Any = None,
    fit: Fit | None = None,
    figsize: tuple[float, float] = A4,
) -> Figure:
    """Plot one page for one picture: its map, the prediction, the runner-up with its own map, and two sentences.

    The sentences name the explained class, its probability and where the map is strongest, all of them computed, and say
    what the map does not show. With a mask, the page says how far the map agrees with it, by the
    :func:`~captum_softcam.metrics.functional.relevance_mass_accuracy` and the
    :func:`~captum_softcam.metrics.functional.pointing_game` of a comparison. Of a volume, the slice with the highest
    attribution is drawn. Models without probabilities have scores, a regression one value.

    Names that are too long are cut in their middle. A character that Matplotlib's fonts lack is drawn as a box, with its
    warning; name another font, as in ``matplotlib.rcParams["font.family"] = ["DejaVu Sans", "Noto Sans CJK JP"]``.

    Cost: no forward; about a second.

    Args:
        example (Example): the sample with its maps, as :func:`~captum_softcam.evaluation.explain_sample` returns it; with
            ``runner_up=True`` the page has the map of the runner-up, too.
        classes (sequence of str): names of the classes. Default: their numbers
        method (str): name of the map. Default: the first one that is not a control
        facts (mapping): further lines below the name, such as ``{"Model": "resnet50", "Date": "2026-11-29"}``. Default:
            none, not even a date, so that the same example gives the same page
        original (Tensor, ndarray or PIL image): the uncropped picture, upright, to draw instead of what the network saw,
            with a frame around that. Default: None
        fit (Fit): how the original became the input of the network, that of the ``Classifier``. Default: ``Fit()``
        figsize (tuple of float): of the page in inches. Default: A4, 8.27 x 11.69

    Returns:
        matplotlib.figure.Figure: the page; :func:`write_sheet` saves it.

    Raises:
        ValueError: if the example has no map of this name, the page is too small, the original is not the picture that the
            network saw, or a map or mask does not fit its input.

    Example::

        >>> example = explain_sample(classifier.model, sample, normalize=classifier.normalize, runner_up=True)
        >>> write_sheet(plot_sheet(example, classifier.classes), "sheet.pdf")
    """
    method = _default_method(example.maps) if method is None else method
    if not example.maps:
        raise ValueError("the example has no maps to draw; explain_sample returns one with maps.")
    if method not in example.maps:
        raise ValueError(f"the example has no map {quoted(method)}. {closest(method, example.maps)}")
    if figsize[0] < _LEAST[0] or figsize[1] < _LEAST[1]:
        raise ValueError(
            f"a sheet of {figsize[0]:g} x {figsize[1]:g} inches is too small for its text; expected at least "
            f"{_LEAST[0]:g} x {_LEAST[1]:g}."
        )
    return _Sheet(example, classes, method, dict(facts or {}), original, fit or Fit(), figsize).plot()


def write_sheet(figure: Figure, path: str | Path) -> None:
    """Write a sheet, or another figure, as PDF, SVG or PNG; the same figure gives the same bytes.

    Text stays text in PDF, whose fonts are embedded, and in SVG.

    Args:
        figure (Figure): the figure.
        path (path): a new file, which appears only when it is complete; its ending is the format.

    Raises:
        ValueError: if the ending is another one.
        FileExistsError: if ``path`` exists, because nothing is overwritten.
        FileNotFoundError: if its folder does not exist.
        OSError: if the file cannot be written.
    """
    path = _new_file(path)
    with replacing(path) as file:
        _save(figure, file, path.suffix[1:].lower())


def write_sheets(
    comparison: Comparison,
    path: str | Path,
    classes: Sequence[str] | None = None,
    *,
    method: str | None = None,
    facts: Mapping[str, object] | None = None,
    originals: Mapping[str, Any] | None = None,
    fit: Fit | None = None,
    figsize: tuple[float, float] = A4,
) -> None:
    """Write a sheet for every example of a comparison: a folder of PDF files, or one PDF with a page for each.

    The files of a folder are numbered in the order of the examples, and named after the samples. If the method failed on a
    sample, its sheet says so.

    Cost: no forward; about a second for each example.

    Args:
        comparison (Comparison): made with ``examples=`` and, for the map of the runner-up, ``runner_up=True``.
        path (path): a new folder or, if it ends in ``.pdf``, a new file; it appears only when it is complete.
        classes (sequence of str): names of the classes. Default: those of the manifest, else their numbers
        method (str): name of the map. Default: the first method that is not a control
        facts (mapping): further lines on every sheet besides the model and the label, such as ``{"Date": "2026-11-29"}``.
            Default: none
        originals (mapping): uncropped pictures by the identifier of their sample, as ``original`` of :func:`plot_sheet`.
            Default: none
        fit (Fit): how they became the input of the network. Default: ``Fit()``
        figsize (tuple of float): of a page in inches. Default: A4

    Raises:
        ValueError: if the comparison has no examples or no such method, or as by :func:`plot_sheet`.
        FileExistsError: if ``path`` exists, because nothing is overwritten.
        FileNotFoundError: if the folder of a file does not exist.
        OSError: if the place cannot be written to.

    Example::

        >>> write_sheets(comparison, "sheets.pdf")
    """
    path = Path(path)
    if not comparison.examples:
        raise ValueError("the comparison keeps no examples to draw; compare with examples=4, or as many as you want sheets.")
    method = _default_method(comparison.methods) if method is None else method
    if method not in comparison.methods:
        raise ValueError(f"the method {quoted(method)} is not in this comparison. {closest(method, comparison.methods)}")
    classes = comparison.manifest.get("classes") if classes is None or not len(classes) else classes
    pages = _pages(comparison, classes, method, dict(facts or {}), originals or {}, fit or Fit(), figsize)
    if path.suffix.lower() == ".pdf":
        _new_file(path)
        with replacing(path) as file:
            _save_together(pages, file)
        return
    refuse_taken(path)
    digits = max(3, len(str(len(comparison.examples))))
    with new_folder(path) as folder:
        for number, (name, page) in enumerate(pages, start=1):
            with replacing(folder / f"{number:0{digits}d}-{_safe(name)}.pdf") as file:
                _save(page, file, "pdf")


def _pages(
    comparison: Comparison,
    classes: Sequence[str] | None,
    method: str,
    facts: dict[str, object],
    originals: Mapping[str, Any],
    fit: Fit,
    figsize: tuple[float, float],
) -> Iterator[tuple[str, Figure]]:
    """Yield the name and the sheet of every example, one by one, because each holds its pictures."""
    model = comparison.manifest.get("model")
    for example in comparison.examples:
        name = example.sample.identifier
        known = {"Model": model} if model else {}
        if label := _label(example.sample, classes):
            known["Label"] = label
        yield name, _Sheet(example, classes, method, known | facts, originals.get(name), fit, figsize).plot()


def _label(sample: Sample, classes: Sequence[str] | None) -> str:
    labels = sample.labels or () if sample.labels is not None or sample.target == UNKNOWN else (sample.target,)
    return listed(class_name(label, classes) for label in labels)


def _default_method(methods: Sequence[str] | Mapping[str, Any]) -> str:
    return next((name for name in methods if name not in CONTROLS), next(iter(methods), ""))


@dataclass(frozen=True)
class _Sheet:
    """What a page shows; see :func:`plot_sheet`."""

    example: Example
    classes: Sequence[str] | None
    method: str
    facts: dict[str, object]
    original: Any
    fit: Fit
    figsize: tuple[float, float]

    def plot(self) -> Figure:
        """Plot the page: the header, the pictures, the prediction, and the words that fit what is left."""
        page = Page(self.figsize)
        page.figure.set_label(shown(self.example.sample.identifier))
        found = self._found()
        words = page.wrapped(" ".join(self._words(found)), page.inner, _TEXT)
        end = page.height - MARGIN - LINE * CAPTION
        page.rule(end - 6)
        page.write(_DISCLAIMER, MARGIN, end, CAPTION, bold=True)
        start = end - 12 - LINE * _TEXT * len(words)
        top = self._header(page)
        middle = self._pictures(page, found, top, top + _PICTURES * (start - top))
        below = self._answers(page, found, middle + _GAP, start - _GAP / 2)
        page.lines(words, MARGIN, min(start, below + _GAP / 2), _TEXT)
        return page.figure

    def _found(self) -> Drawn:
        """Return the picture to draw with the map of the method, on the original if there is one."""
        kinds = self.example.maps, self.example.runner_up_maps
        maps, runner_up_maps = ({self.method: maps[self.method]} if self.method in maps else {} for maps in kinds)
        example = replace(self.example, maps=maps, runner_up_maps=runner_up_maps)
        if self.original is None:
            return drawn(example)
        size, mask = tuple(example.sample.image.shape[1:]), example.sample.mask
        whole, side = _in_floats(as_input(self.original, size)), size[-1]
        _refuse_another(whole, example.sample, self.fit)
        image = _shrunk(whole)
        if mask is not None:
            mask = put_back(fitting_mask(mask, size)[None].double(), tuple(image.shape[1:]), self.fit, side)[0] > 0.5
        return drawn(replace(example, sample=replace(example.sample, image=image, mask=mask)), fit=self.fit, size=side)

    def _header(self, page: Page) -> float:
        """Write name and facts, and return the height at which they end."""
        name = shown(self.example.sample.identifier, 300) or "picture without a name"
        y = page.paragraph(name, MARGIN, MARGIN, page.inner, _NAME, most=2, bold=True)
        facts = " · ".join(f"{named(key)}: {named(value)}" for key, value in self.facts.items())
        y = page.paragraph(facts, MARGIN, y + 2, page.inner, 9, most=3, colour=GREY) if facts else y
        page.rule(y + 4)
        return y + 14

    def _words(self, found: Drawn) -> list[str]:
        if self.method in self.example.maps:
            return findings(self.example, found, self.method, self.classes)
        return [f"There is no map, because {method_title(self.method)} failed on this picture."]

    def _pictures(self, page: Page, found: Drawn, top: float, bottom: float) -> float:
        """Draw the picture and its map, side by side or, if both are larger then, one above the other."""
        notes = [found.title, *found.notes]
        if found.seen is not None:
            notes.insert(0, "the frame shows what the network saw")
        whole, mask = self.example.sample.mask, found.example.sample.mask
        if found.slices and whole is not None and mask is not None and whole.any() and not mask.any():
            notes.append("no marked region here")
        ratio, half, room = _ratio(found), (page.inner - _GAP) / 2, bottom - top - _LEGEND
        title = f"{method_title(self.method)} for {self._scored(self.example.target)}"
        rows = len(page.wrapped(title, half, CAPTION, 2, bold=True))
        beside, above = (half, room), (page.inner, (room - _GAP / 2) / 2)
        stacked = Cell.width(ratio, *above, 1) > Cell.width(ratio, *beside, rows)
        box, rows = (above, 1) if stacked else (beside, rows)
        first = Cell(page, (MARGIN, top), box, ratio, kind_of(found).capitalize(), rows, "; ".join(filter(None, notes)))
        # With the mask here, too: in grey print, its outline cannot be told from the contours of the map.
        draw_input(first.axes(), found)
        place = (MARGIN, first.end + _GAP / 2) if stacked else (MARGIN + half + _GAP, top)
        second = Cell(page, place, box, ratio, title, rows)
        if self.method in found.example.maps:
            draw_overlay(second.axes(), found, self.method, Look())
        else:
            page.write("no map", *second.place[:2], _TEXT)
        return self._legend(page, found, max(first.end, second.end) + 4)

    def _scored(self, number: int) -> str:
        """Return the name of a class with its score."""
        name, values = class_name(number, self.classes), self.example.probabilities
        if values is None or len(values) == 1:
            return f"“{name}”" if values is None else "the value"
        return f"“{name}” ({value_text(float(values[number]), are_probable(self.example))})"

    def _legend(self, page: Page, found: Drawn, y: float) -> float:
        """Explain colours and lines in one row, and return the height at which it ends."""
        regression = self.example.probabilities is not None and len(self.example.probabilities) == 1
        low, high = ("lowers it", "raises it") if regression else ("against", "for the class")
        x = page.write(low, MARGIN, y, SMALL) + 4
        bar = page.axes(x, y + 1.5, 70, SMALL)
        bar.imshow(colour_bar(Look()), aspect="auto")
        x = page.write(high, x + 74, y, SMALL) + _GAP
        if found.example.sample.image.dim() == 3:
            x = page.stroke(x, y, "white", "solid")
            levels = " and ".join(f"{100 * level:g}" for level in LEVELS)
            x = page.write(f"{levels} % of the scale", x, y, SMALL) + 8
            x = page.stroke(x, y, "white", "dashed")
            x = page.write(f"the same, {low}", x, y, SMALL) + _GAP
            if found.example.sample.mask is not None:
                x = page.stroke(x, y, OUTLINE, "solid")
                page.write("marked region", x, y, SMALL)
        return y + LINE * SMALL

    def _answers(self, page: Page, found: Drawn, top: float, bottom: float) -> float:
        """Draw the prediction and, beside it, the map of the runner-up; return the height at which they end."""
        half, number, maps = (page.inner - _GAP) / 2, self.example.runner_up, found.example.runner_up_maps
        if self.method not in maps or number is None:
            return self._bars(page, top, bottom, page.inner)
        place, box = (MARGIN + half + _GAP, top), (half, bottom - top)
        title = f"{self._role_of_other().capitalize()}: {self._scored(number)}"
        rows = len(page.wrapped(title, half, CAPTION, 2, bold=True))
        cell = Cell(page, place, box, _ratio(found), title, rows, "on a colour scale of its own")
        draw_overlay(cell.axes(), replace(found, example=replace(found.example, maps=maps)), self.method, Look())
        return max(cell.end, self._bars(page, top, bottom, half))

    def _role_of_other(self) -> str:
        """Return what the other class is: ahead of an explained class that was not predicted, there is no runner-up."""
        values, other, target = self.example.probabilities, self.example.runner_up, self.example.target
        if values is None or other is None or not values[other] > values[target]:
            return "runner-up"
        return "predicted" if self.example.scores == "softmax" else "highest"

    def _bars(self, page: Page, top: float, bottom: float, width: float) -> float:
        """Draw the scores of the highest classes as bars with numbers; return the height at which they end."""
        values = self.example.probabilities
        heading, note = _heading(self.example)
        y = page.paragraph(heading, MARGIN, top, width, _TEXT, most=1, bold=True)
        y = page.paragraph(note, MARGIN, y, width, SMALL, most=2, colour=GREY) + 6
        if values is None:
            return y
        probable = are_probable(self.example)
        if len(values) == 1:
            page.write(value_text(float(values[0]), probable), MARGIN, y, _VALUE, bold=True)
            return y + LINE * _VALUE
        rows, rest = _listed_classes(self.example, max(2, min(_MOST, int((bottom - y - LINE * SMALL) / _ROW))))
        finite = [float(value) for value in values[rows].double() if value.isfinite()]
        low, high = (0.0, 1.0) if probable else (min([0.0, *finite]), max([0.0, *finite]))
        for number in rows:
            self._bar(page, number, y, width, low, (high - low) or 1.0)
            y += _ROW
        if rest:
            highest = value_text(float(values[rest[0]]), probable)
            words = f"and {len(rest)} more class{'es' * (len(rest) > 1)}, {'the highest ' * (len(rest) > 1)}at {highest}"
            y = page.paragraph(words, MARGIN, y, width, SMALL, most=1, colour=GREY)
        return y

    def _bar(self, page: Page, number: int, y: float, width: float, low: float, span: float) -> None:
        example, explained = self.example, number == self.example.target
        assert example.probabilities is not None
        value, role = float(example.probabilities[number]), " (explained)" if explained else ""
        if example.runner_up_maps and number == example.runner_up:
            role = f" ({self._role_of_other()})"
        room = page.measured(role, 9, explained)
        name = page.cut(class_name(number, self.classes, 300), width - room, 9, explained)
        page.write(name + role, MARGIN, y, 9, bold=explained)
        line, track = y + LINE * 9 + 1, width - 48
        page.box(MARGIN, line, track, _BAR, "#eeeeee")
        if np.isfinite(value):
            start, end = sorted(((0.0 - low) / span, (value - low) / span))
            page.box(MARGIN + track * start, line, track * (end - start), _BAR, "#222222" if explained else "#9a9a9a")
        page.write(value_text(value, are_probable(example)), MARGIN + width, line - 2, 9, bold=explained, align="right")


def _ratio(found: Drawn) -> float:
    """Return width over height of a picture; signals are drawn in a fixed frame."""
    shape = found.example.sample.image.shape
    return 2.5 if len(shape) == 2 else shape[-1] / shape[-2]


def _heading(example: Example) -> tuple[str, str]:
    """Return the heading of the scores, and what they are."""
    values = example.probabilities
    if values is None:
        return "Prediction", "The scores of the classes are not known."
    if len(values) == 1:
        return "Value", "The model gives a value, not a class."
    if several_classes(example):
        return "Prediction", "Each class has a probability of its own; several can be present."
    if not values.isfinite().all():
        return "Prediction", "Some scores are not finite."
    if are_probable(example):
        return "Prediction", f"The probabilities of {'both' if len(values) == 2 else f'all {len(values)}'} classes sum to 1."
    kind = "" if example.scores == "identity" else f", by {shown(example.scores, 60)}"
    return "Scores", f"Scores of the model, which need not be probabilities{kind}."


def _listed_classes(example: Example, most: int) -> tuple[list[int], list[int]]:
    """Return the classes to list, highest first, and those that are left out."""
    values = example.probabilities
    assert values is not None
    order = values.double().nan_to_num(-torch.inf).argsort(descending=True, stable=True).tolist()
    count = int((values > 0.5).sum()) + 1 if several_classes(example) else _CLASSES
    needed = [example.target, *([example.runner_up] if example.runner_up_maps else [])]
    others = [number for number in order if number not in needed]
    # Of the highest classes, those needed may be some already.
    count = min(most, max(count, 3))
    chosen = set(order[:count]) if set(needed) <= set(order[:count]) else {*needed, *others[: count - len(needed)]}
    return [number for number in order if number in chosen], [number for number in order if number not in chosen]


def _in_floats(image: Any) -> Tensor:
    return numbers(image) / (255 if str(image.dtype).endswith("uint8") else 1)


def _shrunk(image: Tensor) -> Tensor:
    """Return an image (C, H, W), at most as large as print shows; volumes and signals as they are."""
    shrink = _SIDE / max(image.shape[1:])
    if image.dim() != 3 or shrink >= 1:
        return image
    size = [max(1, round(side * shrink)) for side in image.shape[1:]]
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def _refuse_another(image: Tensor, sample: Sample, fit: Fit) -> None:
    """Raise ValueError unless an original, read by ``fit``, looks like the input of the network."""
    grey = image.nan_to_num().mean(0, keepdim=True)
    grey = (grey - grey.min()) / ((grey.max() - grey.min()) or 1.0)
    seen = numbers(sample.image).nan_to_num().mean(0)
    alike = 0.0
    if grey.dim() == 2:
        again, inside = grey[0], torch.ones_like(grey[0], dtype=torch.bool)
    else:  # black margins say nothing, because they are of another brightness before and after scaling
        again, inside = (fit.image(each, seen.shape[-1])[0] for each in (grey, torch.ones_like(grey)))
        inside = inside > 0.5
    if again.shape == seen.shape:
        one, other = again[inside].numpy(), seen[inside].numpy()
        # Values may have been windowed or scaled on reading, which keeps the correlation high.
        alike = float(np.corrcoef(one, other)[0, 1]) if one.std() and other.std() else 1.0
    if alike < _ALIKE:
        raise ValueError(
            f"the original of '{shown(sample.identifier)}' is not the picture that the network saw: read by {quoted(fit)}, "
            f"the two have a correlation of {alike:.2f}; pass this sample's picture, upright, and the fit it was read by."
        )


def _new_file(path: str | Path) -> Path:
    """Return the path of a file to write; raise an error if it has another ending, exists, or has no folder."""
    path = Path(path)
    if path.suffix[1:].lower() not in _FORMATS:
        raise ValueError(f"'{shown(path)}' cannot be written as a sheet; expected the ending .{', .'.join(_FORMATS)}.")
    check_new_file(path, "sheet")
    return path


def _save(figure: Figure, file: BinaryIO, form: str) -> None:
    title = {"Title": figure.get_label() or "figure"}
    with saving(_SAVED):
        dpi = 150 if form == "png" else "figure"
        figure.savefig(file, format=form, dpi=dpi, facecolor="auto", metadata=_UNDATED[form] | title)


def _save_together(pages: Iterator[tuple[str, Figure]], file: BinaryIO) -> None:
    with saving(_SAVED), PdfPages(file, metadata={"CreationDate": None, "Title": "Sheets"}) as together:
        for _, page in pages:
            page.savefig(together, format="pdf", facecolor="auto")


def _safe(name: str) -> str:
    """Return a name as part of a file's name on any system, at most 60 letters, digits, points and dashes."""
    kept = (sign if sign.isascii() and (sign.isalnum() or sign in "-._") else "_" for sign in name[-60:])
    return "".join(kept).strip(".") or "_"
