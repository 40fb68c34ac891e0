"""Data for the report's script: names, curves with their bands, costs, and the gallery.

The gallery stores images as JPEG, masks as bits, and maps as signed bytes with the scale that restores them.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from captum_softcam._maps import PERCENTILE
from captum_softcam.data.samples import UNKNOWN
from captum_softcam.evaluation import Comparison, Example, View
from captum_softcam.evaluation.controls import method_title
from captum_softcam.evaluation.curves import MeanCurve
from captum_softcam.report._drawing.pictures import Drawn, as_bytes, drawn
from captum_softcam.report.findings import are_probable, findings
from captum_softcam.report.overlays import LEVELS, OPACITY, UNDEFINED, Look

__all__ = ["gallery_data", "inline_jpeg", "page_data"]

SIDES = (112, 80, 56, 40, 28)
"""Longest sides of the stored maps; the first that fits the budget is used."""
BUDGET = 7_500_000
"""Maximum number of characters of the gallery in the file."""

_DIGITS = 5  # decimals of the curves
_IMAGE_SIDE = 320
_MASK_SIDE = 224
_Quantised = tuple[NDArray[np.int8], float]
_UNDEFINED = -128  # the byte for NaN and infinity


def page_data(comparison: Comparison, view: View, classes: Sequence[str]) -> dict[str, Any]:
    """Return all data that the script reads."""
    return {
        "methods": [
            {
                "name": name,
                "title": method_title(name),
                "control": name in view.controls,
                "baseline": name == view.baseline,
                "map": next((group[0] for group in view.same if name in group), name),
            }
            for name in view.methods
        ],
        "metrics": [
            {
                "name": name,
                "title": view.titles[name],
                "higher": view.higher_is_better(name),
                "decimals": view.decimals[name],
            }
            for name in view.grouped
        ],
        "classes": classes,
        "model": comparison.manifest.get("model"),
        "curves": _curves(comparison, view),
        "gallery": gallery_data(comparison, view, classes),
        "costs": _costs(view),
    }


def _curves(comparison: Comparison, view: View) -> list[dict[str, Any]]:
    """Return, for each metric that draws a curve, the fractions and each method's mean with its pointwise 95 % band."""
    return [
        {
            "metric": found.metric,
            "fractions": found.fractions,
            "lines": [{"method": name, **_line(curve)} for name, curve in found.lines.items()],
        }
        for found in comparison.mean_curves(view.grouped)
    ]


def _line(curve: MeanCurve) -> dict[str, Any]:
    return {name: np.round(getattr(curve, name), _DIGITS) for name in ("mean", "low", "high")} | {"count": curve.count}


def _costs(view: View) -> dict[str, Any]:
    """Return the relative cost of each method, and for each metric the means with their intervals."""
    columns = {metric: [view.cells[method, metric] for method in view.methods] for metric in view.grouped}
    return {
        "relative": [view.cost(name) for name in view.methods],
        "quality": {
            metric: [[cell.mean, cell.low, cell.high] if cell.count else None for cell in column]
            for metric, column in columns.items()
        },
    }


def gallery_data(
    comparison: Comparison, view: View, classes: Sequence[str] = (), budget: int = BUDGET
) -> dict[str, Any] | None:
    """Return the data of the gallery; None if there are no images to show.

    Maps are stored at most 112 positions a side, fewer where the gallery would exceed the budget. If even the coarsest maps
    do, the last samples are left out and counted by ``left_out``. Signals are also left out and counted by ``signals``.

    Args:
        comparison (Comparison): the comparison whose examples are shown.
        view (View): its methods and metrics, in order.
        classes (sequence of str): names of the classes. Default: their numbers
        budget (int): approximate maximum of characters. Default: 7.5 million
    """
    examples = [example for example in comparison.examples if example.sample.image.ndim > 2]
    if not examples:
        return None
    entries, maps = [], []
    for example in examples:
        found = drawn(example)  # one by one, because maps of the images' size take much memory
        words = [findings(example, found, name, classes) if name in example.maps else [] for name in view.methods]
        entries.append(_entry(comparison, view, found) | {"findings": [" ".join(each) for each in words]})
        maps.append(_maps(view.methods, found.example))
    spare = budget - sum(len(entry["image"]) + len(entry["mask"] or "") for entry in entries)
    for place in range(len(SIDES)):
        stored = [{kind: [each and _stored(each[place]) for each in both[kind]] for kind in both} for both in maps]
        sizes = np.cumsum([sum(len(each["text"]) for kind in both.values() for each in kind if each) for both in stored])
        if sizes[-1] <= spare:
            break
    fitting = max(1, int((sizes <= spare).sum()))
    samples = [entry | both for entry, both in zip(entries[:fitting], stored, strict=False)]
    counts = {"left_out": len(entries) - fitting, "signals": len(comparison.examples) - len(examples)}
    look = {"colours": _colours(), "opacity": OPACITY, "levels": LEVELS, "percentile": PERCENTILE}
    return {"samples": samples, **counts, **look}


def _entry(comparison: Comparison, view: View, found: Drawn) -> dict[str, Any]:
    """Return the data of a sample, except for its maps and what they say."""
    example, sample = found.example, found.example.sample
    height, width = sample.image.shape[1:]
    own = comparison.scores[comparison.scores["sample"] == sample.identifier]
    scores = dict(zip(zip(own["method"], own["metric"], strict=True), own["score"], strict=True))
    return {
        "name": sample.identifier,
        "height": height,
        "width": width,
        "note": ", ".join(filter(None, [found.title, *found.notes])),
        "image": inline_jpeg(as_bytes(sample.image), _IMAGE_SIDE),
        "mask": None if sample.mask is None else _bits(sample.mask),
        "mask_size": None if sample.mask is None else _fitting(sample.mask.shape[1:], _MASK_SIDE),
        "label": None if sample.target == UNKNOWN else sample.target,
        "labels": None if sample.labels is None else list(sample.labels),
        "undecided": list(sample.undecided),
        "target": example.target,
        "runner_up": example.runner_up if example.runner_up_maps else None,
        "prediction": int(own["prediction"].iloc[0]) if len(own) and view.predicts else None,
        "probabilities": None if example.probabilities is None else _short(example.probabilities.tolist()),
        "probable": are_probable(example),
        "scores": [[scores.get((method, metric)) for metric in view.grouped] for method in view.methods],
    }


def _short(values: list[float]) -> list[float]:
    """Round to five significant digits; scores may be values of any size."""
    return [float(f"{value:.5g}") for value in values]


def inline_jpeg(pixels: NDArray[np.uint8], side: int) -> str:
    """Encode pixels (H, W, 3) as a data URL, which needs no file, at most ``side`` pixels a side."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((side, side))
    picture.save(file, "JPEG", quality=87, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _bits(mask: Tensor) -> str:
    """Encode a mask with one bit per pixel."""
    # The maximum keeps lesions of a single pixel.
    smaller = adaptive_max_pool2d(mask[None].float(), _fitting(mask.shape[1:], _MASK_SIDE))
    return _packed(np.packbits(smaller[0, 0].numpy() > 0))


def _fitting(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Return height and width shrunk to at most ``side`` pixels a side."""
    shrink = min(1.0, side / max(shape))
    height, width = (max(1, round(length * shrink)) for length in shape)
    return height, width


def _maps(methods: Sequence[str], example: Example) -> dict[str, list[list[_Quantised] | None]]:
    """Quantise the maps of the explained class and of the runner-up by each method, at every size of :data:`SIDES`."""

    def at_all_sides(maps: dict[str, Tensor]) -> list[list[_Quantised] | None]:
        return [[_quantised(maps[name], side) for side in SIDES] if name in maps else None for name in methods]

    kinds = {"maps": example.maps, "runner_up_maps": example.runner_up_maps}
    return {kind: at_all_sides(maps) if maps else [] for kind, maps in kinds.items()}


def _quantised(attribution: Tensor, side: int) -> _Quantised:
    """Convert a map to signed bytes, with -128 for non-finite values, and return them with the magnitude of 127."""
    cells = adaptive_avg_pool2d(attribution[None], _fitting(attribution.shape[1:], side))[0, 0]
    finite = cells.isfinite()
    peak = float(cells[finite].abs().max()) if finite.any() else 0.0
    scaled = (cells / peak * 127).round() if peak else torch.zeros_like(cells)
    return torch.where(finite, scaled, torch.full_like(scaled, _UNDEFINED)).to(torch.int8).numpy(), peak


def _stored(quantised: _Quantised) -> dict[str, Any]:
    values, peak = quantised
    packed, differences = _shorter(values)
    return {"text": packed, "size": values.shape, "peak": float(f"{peak:.6g}"), "differences": differences}


def _shorter(values: NDArray[np.int8]) -> tuple[str, bool]:
    """Compress the values or, if that is shorter, as for smooth maps, their differences down and across."""
    differences = values.astype(np.int16)
    for axis in (0, 1):
        differences = np.diff(differences, axis=axis, prepend=0)
    plain, changed = _packed(values), _packed(differences.astype(np.int8))
    return (changed, True) if len(changed) < len(plain) else (plain, False)


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes())).decode()


def _colours() -> dict[str, Any]:
    """Return 255 colours from against the class to for the class, as many for positive values alone, and that of NaN."""
    steps = np.linspace(-1, 1, 255)
    scales = {"signed": Look().coloured(steps), "positive": Look(positive=True).coloured(steps.clip(0))}
    undefined = [round(255 * part) for part in to_rgb(UNDEFINED)]
    return {name: scale.tolist() for name, scale in scales.items()} | {"undefined": undefined}
