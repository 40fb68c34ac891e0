"""The gallery's data: photographs as JPEG, masks as bits, and maps as signed bytes with the scale that gives them back."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from captum_softcam.evaluation import Example
from captum_softcam.report.drawable import as_drawn
from captum_softcam.report.html.facts import Facts
from captum_softcam.report.panels import COLOURS

__all__ = ["gallery_data"]

SIDES = (112, 80, 56, 40, 28)
"""Longest sides of the stored maps; the first that fits is taken."""
BUDGET = 7_500_000
"""Characters that the gallery may take in the file."""

_IMAGE_SIDE = 320
_MASK_SIDE = 224
_UNDEFINED = -128  # the byte that stands for NaN and infinity


def gallery_data(facts: Facts, budget: int = BUDGET) -> dict[str, Any] | None:
    """Everything that the gallery shows; None if no sample was kept.

    Maps are stored at 112 positions a side or fewer, so that all fits; if even the coarsest do not, the last samples are
    left out, and ``left_out`` says how many. Signals are left out, too; ``signals`` counts them.

    Args:
        facts (Facts): the comparison.
        budget (int): characters of JSON, about. Default: 7.5 million
    """
    kept = facts.comparison.examples
    examples = [example for example in kept if example.sample.image.ndim > 2]
    if not examples:
        return None
    entries = [_entry(facts, *as_drawn(example)) for example in examples]
    spare = budget - sum(len(entry["image"]) + len(entry["mask"] or "") for entry in entries)
    for side in SIDES:
        maps = [_maps(facts.methods, as_drawn(example)[0], side) for example in examples]  # drawn anew: few stay in memory
        sizes = np.cumsum([sum(len(stored["text"]) for kind in both.values() for stored in kind if stored) for both in maps])
        if sizes[-1] <= spare:
            break
    fitting = max(1, int((sizes <= spare).sum()))
    samples = [entry | both for entry, both in zip(entries[:fitting], maps, strict=False)]
    counts = {"left_out": len(entries) - fitting, "signals": len(kept) - len(examples)}
    return {"samples": samples, **counts, "colours": _colours()}


def _entry(facts: Facts, example: Example, note: str) -> dict[str, Any]:
    """A sample without its maps."""
    sample = example.sample
    height, width = sample.image.shape[1:]
    scores = facts.comparison.scores
    own = scores[scores["sample"] == sample.identifier]
    return {
        "name": sample.identifier,
        "height": height,
        "width": width,
        "note": note,
        "image": _jpeg(sample.image),
        "mask": None if sample.mask is None else _bits(sample.mask),
        "mask_size": None if sample.mask is None else _fitting(sample.mask.shape[1:], _MASK_SIDE),
        "label": sample.target,
        "target": example.target,
        "rival": example.rival if example.rival_maps else None,
        "prediction": int(own["prediction"].iloc[0]) if len(own) else None,
        "probabilities": None if example.probabilities is None else [round(p, 5) for p in example.probabilities.tolist()],
        "scores": _scores(facts, own),
    }


def _scores(facts: Facts, own: Any) -> list[list[float | None]]:
    """The sample's own scores, methods x metrics."""
    found = dict(zip(zip(own["method"], own["metric"], strict=True), own["score"], strict=True))
    return [[found.get((method, metric)) for metric in facts.metrics] for method in facts.methods]


def _jpeg(image: Tensor) -> str:
    """The photograph as a data address, at most 320 pixels a side."""
    array = (image.expand(3, -1, -1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(array)
    picture.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=87, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _bits(mask: Tensor) -> str:
    """The mask, one bit per pixel; made smaller, a pixel is set if any of its part is, so that no lesion goes."""
    smaller = adaptive_max_pool2d(mask[None].float(), _fitting(mask.shape[1:], _MASK_SIDE))
    return _packed(np.packbits(smaller[0, 0].numpy() > 0))


def _fitting(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Height and width with no side above ``side``, nor above what there is."""
    shrink = min(1.0, side / max(shape))
    height, width = (max(1, round(length * shrink)) for length in shape)
    return height, width


def _maps(methods: Sequence[str], example: Example, side: int) -> dict[str, list[dict[str, Any] | None]]:
    """Maps of the explained class and of its rival, method by method; None where there is none."""
    kinds = {"maps": example.maps, "rivals": example.rival_maps}
    return {
        kind: [_stored(maps[name], side) if name in maps else None for name in methods] if maps else []
        for kind, maps in kinds.items()
    }


def _stored(attribution: Tensor, side: int) -> dict[str, Any]:
    """A map as signed bytes: 127 stands for its greatest magnitude, ``peak``; -128 for what is not finite."""
    size = _fitting(attribution.shape[1:], side)
    cells = adaptive_avg_pool2d(attribution[None], size)[0, 0]
    finite = cells.isfinite()
    peak = float(cells[finite].abs().max()) if finite.any() else 0.0
    scaled = (cells / peak * 127).round() if peak else torch.zeros_like(cells)
    bytes_ = torch.where(finite, scaled, torch.full_like(scaled, _UNDEFINED)).to(torch.int8).numpy()
    packed, differences = _shorter(bytes_)
    return {"text": packed, "size": size, "peak": float(f"{peak:.6g}"), "differences": differences}


def _shorter(values: NDArray[np.int8]) -> tuple[str, bool]:
    """The values or their differences down and across, whichever is shorter: smooth maps gain, noise does not."""
    differences = values.astype(np.int16)
    for axis in (0, 1):
        differences = np.diff(differences, axis=axis, prepend=0)
    plain, changed = _packed(values), _packed(differences.astype(np.int8))
    return (changed, True) if len(changed) < len(plain) else (plain, False)


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes())).decode()


def _colours() -> list[list[int]]:
    """Red, green and blue of 255 steps, against the class to for it, without the dark ends that vanish on photographs."""
    steps = np.interp(np.linspace(-1, 1, 255), [-1, 0, 1], [0.12, 0.5, 0.82])
    return [[round(255 * part) for part in colour[:3]] for colour in matplotlib.colormaps[COLOURS](steps).tolist()]
