"""Write explained pictures: overlays, panels, maps as arrays, and one page for all of them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_softcam._files import check_new_file, refuse_taken, replacing, write_text
from captum_softcam._maps import upsample
from captum_softcam.evaluation import Example, ExplainedPicture
from captum_softcam.evaluation.controls import method_title
from captum_softcam.report._drawing.pictures import as_bytes
from captum_softcam.report.html.data import inline_jpeg
from captum_softcam.report.html.page import environment, part
from captum_softcam.report.overlays import Look, overlay
from captum_softcam.report.panels import legend, plot_panel
from captum_softcam.report.sheets import plot_sheet, write_sheet

__all__ = ["write_explanations"]

_SIDE = 640  # most pixels a side of a picture on the page
_PANEL_DPI = 150
_MOST = 2**22  # pixels at which overlays are drawn: Matplotlib takes 170 bytes for each
_SMALL = 2**20  # pixels of the pictures of a panel


def write_explanations(
    pictures: Iterable[ExplainedPicture], folder: str | Path, *, report: str | Path | None = None, sheets: bool = False
) -> list[Path]:
    """Write the files of explained pictures, one picture after the other.

    For each picture there are ``STEM-METHOD.png``, its overlay in the picture's own size (drawn at 4 megapixels and enlarged
    if the picture has more), ``STEM-panel.png`` with all methods side by side, and ``STEM.npz`` with the maps as numbers.
    Where several classes are explained, the names of overlays end with the number of the class, as in
    ``STEM-METHOD-class281.png``. ``explained.txt`` has a line for each picture, with the explained classes and their scores.

    The arrays of ``STEM.npz`` are ``layer/METHOD`` (K, h, w) and ``input/METHOD`` (K, size, size), the maps of K classes at
    the resolutions of the layer and of the input; ``classes``, ``class_names`` and ``scores`` (K,); ``methods`` and
    ``layers``, their names; ``picture``, ``model`` and ``score_kind``; ``picture_size`` (height, width), ``input_size`` and
    ``fit``, how the picture became the input, with ``box``: top, left, bottom and right of the input on the picture, in
    pixels.

    Args:
        pictures (iterable of ExplainedPicture): as :func:`~captum_softcam.evaluation.explain_pictures` yields them.
        folder (path): a new folder, made when the first picture is explained. If a picture fails, those before it are kept.
        report (path): a new file, one HTML page with all pictures, which is written at the end; may lie in ``folder``.
            Default: None
        sheets (bool): write ``STEM-sheet.pdf``, too, one page A4 as :func:`plot_sheet` draws it, of the first class. It has
            the map of the runner-up if that was explained. Default: False

    Returns:
        list of Path: the files.

    Raises:
        FileExistsError: if ``folder`` or ``report`` exists, because nothing is overwritten.
        FileNotFoundError: if the folder of the report does not exist.
        OSError: if a file cannot be written, as on a full disk.

    Example::

        >>> written = write_explanations(explain_pictures(load_embedded(), "scans"), "explained")
        >>> [path.name for path in written]
        ['1-a-soft_cam.png', '1-a-recipro_cam.png', '1-a-grad_cam.png', '1-a-panel.png', '1-a.npz', 'explained.txt']
    """
    folder, report = Path(folder), None if report is None else Path(report)
    refuse_taken(folder)
    if report is not None and os.path.abspath(report.parent) == os.path.abspath(folder):
        refuse_taken(report)  # its folder is made with the first picture
    elif report is not None:
        check_new_file(report, "page")
    written: list[Path] = []
    lines: list[str] = []
    shown_pictures: list[dict[str, Any]] = []
    try:
        for each in pictures:
            drawings = list(_drawings(each))
            if not written:
                folder.mkdir(parents=True)  # raises FileExistsError if it has appeared meanwhile
            written += _write_one(each, drawings, folder, sheets)
            lines.append(str(each))
            if report is not None:
                shown_pictures.append(_for_page(each, drawings))
    finally:  # also of the pictures before an error
        if lines:
            written.append(folder / "explained.txt")
            write_text(written[-1], "\n".join([*lines, ""]))
    if report is not None:
        write_text(report, _page(shown_pictures))
        written.append(report)
    return written


class _Drawing(NamedTuple):
    """The overlay of a method and a class."""

    method: str
    example: Example
    pixels: NDArray[np.uint8]


def _drawings(each: ExplainedPicture) -> Iterator[_Drawing]:
    picture = _reduced(each.picture, _MOST)
    for example in each.examples:
        for method, attribution in example.maps.items():
            pixels = overlay(picture, attribution, fit=each.fit, size=each.size)
            yield _Drawing(method, example, _enlarged(pixels, each.picture))


def _reduced(picture: Tensor, most: int) -> Tensor:
    """Return a picture, smaller if it has more than ``most`` pixels."""
    height, width = picture.shape[1:]
    scale = math.sqrt(most / (height * width))
    if scale >= 1:
        return picture
    return F.interpolate(picture[None], (max(1, round(height * scale)), max(1, round(width * scale))), mode="area")[0]


def _enlarged(pixels: NDArray[np.uint8], picture: Tensor) -> NDArray[np.uint8]:
    """Return pixels (h, w, 3) in the size of a picture."""
    height, width = picture.shape[1:]
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def _write_one(each: ExplainedPicture, drawings: Iterable[_Drawing], folder: Path, sheets: bool) -> list[Path]:
    """Write the files of one picture, all or none."""
    names, written = _file_names(each.layers), list[Path]()

    @contextmanager
    def new(name: str) -> Iterator[BinaryIO]:
        path = folder / f"{each.stem}{name}"
        with replacing(path) as file:
            written.append(path)
            yield file

    try:
        for method, example, pixels in drawings:
            number = f"-class{example.target}" * (len(each.examples) > 1)
            with new(f"-{names[method]}{number}.png") as file:
                Image.fromarray(pixels).save(file, "PNG", compress_level=1)  # half the time of 6 for a tenth of the size
        with new("-panel.png") as file:
            originals = [_reduced(each.picture, _SMALL)] * len(each.examples)
            panel = plot_panel(each.examples, each.classes, originals=originals, fit=each.fit)
            panel.savefig(file, dpi=_PANEL_DPI, format="png")
        with new(".npz") as file:
            np.savez_compressed(file, **_arrays(each))
        if sheets:
            written.append(folder / f"{each.stem}-sheet.pdf")
            sheet = plot_sheet(
                each.examples[0], each.classes, facts={"Model": each.model}, original=each.picture, fit=each.fit
            )
            write_sheet(sheet, written[-1])
    except BaseException:  # Ctrl-C among them
        for path in written:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()  # if it is empty
        raise
    return written


def _file_names(methods: Iterable[str]) -> dict[str, str]:
    """Return a different part of a file name for each method, which may have any name."""
    found: dict[str, str] = {}
    for method in methods:
        name = re.sub(r"[^\w.-]+", "_", method)[:60]
        while name == "panel" or name in found.values():
            name += "_"
        found[method] = name
    return found


def _arrays(each: ExplainedPicture) -> dict[str, Any]:
    """Return the maps of a picture, and all that is needed to read them and to put them back, as arrays without objects."""
    shape, size = tuple(each.picture.shape[1:]), each.size
    maps = {method: torch.stack([example.maps[method] for example in each.examples]) for method in each.layers}
    low, high = each.fit.box(shape, size)
    targets = [example.target for example in each.examples]
    table = each.examples[0].probabilities
    return {
        **{f"layer/{method}": values[:, 0].numpy() for method, values in maps.items()},
        **{f"input/{method}": upsample(values, (size, size))[:, 0].numpy() for method, values in maps.items()},
        "classes": np.array(targets),
        "class_names": np.array([each.classes[target] for target in targets]),
        "scores": np.array([np.nan if table is None else float(table[target]) for target in targets]),
        "score_kind": np.array(each.examples[0].scores),
        "methods": np.array(list(each.layers)),
        "layers": np.array([layer or "" for layer in each.layers.values()]),
        "model": np.array(each.model),
        "picture": np.array(each.examples[0].sample.identifier),
        "picture_size": np.array(shape),
        "input_size": np.array(size),
        "fit": np.array([each.fit.mode, repr(each.fit.crop), each.fit.interpolation]),
        "box": np.array([*low, *high]),
    }


def _for_page(each: ExplainedPicture, drawings: Sequence[_Drawing]) -> dict[str, Any]:
    """Return what the page shows of a picture."""
    by_class = [
        {
            "name": each.scored(example.target),
            "overlays": [
                {
                    "title": method_title(one.method),
                    "layer": each.layers[one.method] or "",
                    "source": inline_jpeg(one.pixels, _SIDE),
                }
                for one in drawings
                if one.example is example
            ],
        }
        for example in each.examples
    ]
    words = {"name": each.name, "words": each.words, "model": each.model}
    pale = any(edge > 0 for edge in each.fit.box(tuple(each.picture.shape[1:]), each.size)[0])
    return {**words, "photograph": inline_jpeg(as_bytes(each.picture), _SIDE), "by_class": by_class, "pale": pale}


def _page(pictures: list[dict[str, Any]]) -> str:
    ramp = overlay(torch.full((3, 12, 256), 0.5), torch.linspace(-1, 1, 256).expand(1, 12, -1), percentile=100, contours=())
    template = environment().get_template("explanations.html")
    style = part("style.css") + part("explanations.css")
    words = legend(Look(), pale=any(picture["pale"] for picture in pictures))
    return template.render(pictures=pictures, style=style, scale=inline_jpeg(ramp, _SIDE), legend=words)
