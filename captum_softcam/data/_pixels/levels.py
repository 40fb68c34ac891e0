"""Decide which levels of a grey mask belong to its region."""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_softcam._names import shown

__all__ = ["region_of_labels", "region_of_levels"]

_FEW = 32  # levels: within so few, noise cannot be told from the numbers of classes
_CUT = (
    "the levels of a mask crowd at both ends of their range, as JPEG, resizing and smooth edges leave them, so it is cut at "
    "half of that range; pass threshold (--mask-threshold) to cut it elsewhere."
)
_UNCLEAR = (
    "the levels of a mask neither fill areas, as labels do, nor crowd at both ends of their range, so every one above 0 "
    "belongs to it; pass threshold (--mask-threshold) if it shows probabilities."
)
_VOID = (
    "a mask of labels has the value 255 beside small ones, which many data sets use for pixels that belong to no class; it "
    "counts as every other value above 0. Pass ignore=255 (--mask-ignore 255) to leave these pixels out."
)

_Levels = NDArray[Any]
_Pixels = NDArray[np.bool_]


class _Ends(NamedTuple):
    """The most frequent levels of the lower and the upper half of a mask's range; JPEG overshoots them beside edges."""

    low: float
    high: float

    @property
    def span(self) -> float:
        """Distance between both levels."""
        return self.high - self.low

    def beside(self, levels: _Levels, inwards: float, outwards: float) -> tuple[_Pixels, _Pixels]:
        """Return which pixels lie beside the low level, and which beside the high one, by fractions of their distance."""
        near, far = inwards * self.span, outwards * self.span
        low = (levels >= self.low - far) & (levels <= self.low + near)
        return low, (levels >= self.high - near) & (levels <= self.high + far)


def region_of_levels(levels: _Levels, name: str, *, lossy: bool) -> _Pixels:
    """Return where a grey mask shows its region.

    Where the levels crowd at two ends, with single pixels around and between them, as JPEG, resizing and smooth edges leave
    them, those above the middle belong to the region. Otherwise, as in a map of labels, every level above 0 does.

    Args:
        levels (array): (H, W), or those of a volume (D, H, W), numbers.
        name (str): the file, for messages.
        lossy (bool): whether the format of the file changes levels, so that they cannot be labels.

    Raises:
        ValueError: if the levels of a lossy file do not crowd at two ends.
    """
    found, counts = np.unique(levels, return_counts=True)
    if lossy and float(found[-1]) - float(found[0]) < _FEW:
        return _region_of_one_level(levels, name)
    if len(found) < 3:
        return levels > 0
    upper = found > (float(found[0]) + float(found[-1])) / 2
    ends = _Ends(*(float(found[half][counts[half].argmax()]) for half in (~upper, upper)))
    kind = _kind(levels, ends, len(found), lossy=lossy)
    if kind == "noise":
        region: _Pixels = levels > (ends.low + ends.high) / 2
        if not np.array_equal(region, levels > 0):
            warnings.warn(_CUT, stacklevel=1)
        return region
    if lossy:
        raise ValueError(
            f"mask '{shown(name)}' is a lossy file whose levels do not crowd at two ends, so its region cannot be told from "
            "noise; store it as PNG, or pass threshold (--mask-threshold), the fraction of 255 above which pixels belong."
        )
    if kind == "labels":
        return region_of_labels(levels)
    warnings.warn(_UNCLEAR, stacklevel=1)
    return levels > 0


def region_of_labels(labels: _Levels) -> _Pixels:
    """Return where a mask has a label: every value above 0 is one."""
    found = np.unique(labels)
    if len(found) > 2 and found[-1] == 255 and found[-2] < 255 / 3:
        warnings.warn(_VOID, stacklevel=1)
    return labels > 0


def _region_of_one_level(levels: _Levels, name: str) -> _Pixels:
    """Return the region of a lossy mask whose levels are nearly equal: all of a white one, nothing of a black one."""
    if levels.min() >= 256 - _FEW:
        return levels > 0
    smallest, largest = _neighbourhoods(levels)
    scattered = _fraction(smallest == largest, levels > 0) < 0.25 or levels.min() == levels.max()
    if levels.max() < _FEW and scattered:
        return np.zeros(levels.shape, bool)
    raise ValueError(
        f"mask '{shown(name)}' is a lossy file whose levels, {levels.min()} to {levels.max()} of 255, are too close to tell "
        "a region from noise; store it as PNG, or pass threshold=0 (--mask-threshold 0) if all above 0 belong to it."
    )


def _kind(levels: _Levels, ends: _Ends, count: int, *, lossy: bool) -> Literal["labels", "noise", "unclear"]:
    """Return what the levels of a mask are, of which there are ``count``, at least three."""
    smallest, largest = _neighbourhoods(levels)
    flat = largest - smallest <= ends.span / 32
    other = (levels != ends.low) & (levels != ends.high)
    if not lossy and (_is_narrow(levels) or _fill_areas(smallest == largest, flat, other)):
        return "labels"
    if _fraction(flat, ~np.logical_or(*ends.beside(levels, 1 / 32, 1 / 32))) >= 0.25:  # a third level, or a wide slope
        return "unclear"
    # outwards farther than inwards, because JPEG overshoots beside an edge
    low, high = ends.beside(levels, 1 / 8, 1 / 3)
    between = ~(low | high)
    if not between.any():
        both = lossy or ((other & low).any() and (other & high).any())  # 0, 1 and 255: a class, and pixels to ignore
        return "noise" if both else "labels"
    # small regions have hardly more pixels inside than at their edge, which lies between both ends
    inside = (levels > ends.low) & (levels < ends.high)
    edge = inside & (smallest <= ends.low + ends.span / 8) & (largest >= ends.high - ends.span / 8)
    if _fraction(edge, between) >= 0.5:
        return "noise"
    if not lossy and count <= 4:  # labels of thin structures, such as arteries and veins
        return "labels"
    return "noise" if between.sum() <= min(low.sum(), high.sum()) else "unclear"


def _is_narrow(levels: _Levels) -> bool:
    return levels.dtype.kind in "iu" and int(levels.max()) - int(levels.min()) < _FEW


def _fill_areas(even: _Pixels, flat: _Pixels, other: _Pixels) -> bool:
    """Return whether levels fill areas, as labels do, and not only where a smooth slope is rounded."""
    return _fraction(even, other) >= max(0.1, 2 / 3 * _fraction(flat, other))


def _fraction(part: _Pixels, of: _Pixels) -> float:
    return float((part & of).sum() / max(of.sum(), 1))


def _neighbourhoods(levels: _Levels) -> tuple[_Levels, _Levels]:
    """Return the smallest and the largest level among each pixel and its eight neighbours in the picture (…, H, W)."""
    padded = np.pad(levels, [(0, 0)] * (levels.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    return _filtered(padded, np.minimum), _filtered(padded, np.maximum)


def _filtered(padded: _Levels, extreme: np.ufunc) -> _Levels:
    rows = extreme(extreme(padded[..., :-2, :], padded[..., 1:-1, :]), padded[..., 2:, :])
    found: _Levels = extreme(extreme(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])
    return found
