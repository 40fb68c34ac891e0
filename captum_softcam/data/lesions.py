"""Retinal lesions with exact masks: the embedded data set, which needs no download.

The background is real, the lesions are painted. Every sample is a crop of the fundus photograph in the wheel of
scikit-image, ``skimage.data.retina()``: "Fundus photograph of normal left eye" by Mikael Häggström, from Wikimedia
Commons (*Medical gallery of Mikael Häggström 2014*, WikiJournal of Medicine 1 (2), doi:10.15347/wjm/2014.008), under
the Creative Commons CC0 1.0 Universal Public Domain Dedication. Lesions of one kind are painted into the crop before
the simulated camera adds illumination, colour, gamma and noise, so healthy and diseased images share one pipeline.
"""

import math
import operator
from collections.abc import Callable
from functools import cache
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool1d, interpolate
from torch.utils.data import Dataset

from captum_softcam._names import quoted
from captum_softcam.data.samples import Sample

__all__ = ["RetinalLesions"]

Split = Literal["train", "val", "test"]
Array = NDArray[np.float32]
Points = NDArray[np.float64]


class RetinalLesions(Dataset[Sample]):
    """Crops of a real fundus photograph with painted lesions of one kind, or none, and their exact masks.

    The classes are ``healthy``, ``hard exudates`` (clusters or arcs of small sharp yellow deposits), ``haemorrhages``
    (dark red dots, blots and flames) and ``cotton-wool spots`` (pale patches with a feathered edge). Vessels, fovea
    and optic disc remain as natural distractors: the disc is as bright as exudates, the fovea and the crossings of
    vessels are as dark as haemorrhages, and all of them occur in healthy crops too.

    A sample has ``image`` (3, size, size), float32 in [0, 1]; ``target``, which is ``index % 4``, so classes are
    balanced; ``mask`` (1, size, size), bool, None for healthy crops; ``identifier`` such as ``test-0-000012``.

    Mask: True exactly where the lesion changes the crop by more than 0.03 of full scale in some channel, before the
    camera step. That step acts on each pixel by itself: a pixel without paint is the same with and without lesions.
    Masks cover 0.2 to 9 % of the crop, with a median of 2 to 3 %.

    Splits: ``test`` crops come from rows 688 and below of the photograph, ``train`` and ``val`` crops from the rows
    above, so train and test share no pixel; row 688 is also a border of the JPEG's blocks. ``val`` crops come from the
    same part as ``train`` crops, in other random views.

    A sample depends on (split, seed, index) and the size alone: not on the order of access, the process, or the
    global random state, which stays untouched. It costs about 3 ms of one CPU core at the default size.

    Shortcuts: a linear model of colour histograms is right for 26 % of the test samples, which is chance; a random
    forest of the same histograms, which sees the lesions' rare colours, for about 60 %.

    Limits: lesions are painted, and there is one eye. The data set tests explanation methods; it tells nothing about
    patients, and a model trained on it must not be used on one.

    Args:
        split (str): ``"train"``, ``"val"`` or ``"test"``. Default: ``"test"``
        length (int): Number of samples. Default: 1000
        seed (int): Seed of the samples; another one makes other samples of the same split. Default: 0
        size (int): Height and width of the crops, at least 32 pixels. Default: 160

    Raises:
        ValueError: If the split is unknown, the length not positive, the seed negative or the size below 32.

    Example::

        >>> sample = RetinalLesions("test", length=400)[1]
        >>> sample.image.shape, sample.mask.shape, RetinalLesions.classes[sample.target]
        (torch.Size([3, 160, 160]), torch.Size([1, 160, 160]), 'hard exudates')
    """

    classes: ClassVar[tuple[str, ...]] = ("healthy", "hard exudates", "haemorrhages", "cotton-wool spots")

    def __init__(self, split: Split = "test", *, length: int = 1000, seed: int = 0, size: int = 160) -> None:
        if split not in get_args(Split):
            raise ValueError(f"split {quoted(split)} is unknown; expected one of 'train', 'val', 'test'")
        if length < 1:
            raise ValueError(f"length {quoted(length)} is too small; expected at least 1 sample")
        if seed < 0:
            raise ValueError(f"seed {quoted(seed)} is negative; expected 0 or more")
        if size < 32:
            raise ValueError(f"size {quoted(size)} is too small; expected at least 32 pixels, or lesions vanish")
        self.split: Split = split
        self.length = length
        self.seed = seed
        self.size = size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        position = operator.index(index)
        if not -self.length <= position < self.length:
            raise IndexError(f"index {quoted(position)} is out of range for {quoted(self.length)} samples")
        position %= self.length
        target = position % len(self.classes)
        image, mask = _render(self.split, self.seed, position, self.size, target)
        return Sample(image, target, mask, f"{self.split}-{self.seed}-{position:06d}")


def _render(split: Split, seed: int, index: int, size: int, target: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Make image and mask; another target keeps view and camera, and changes the lesion or leaves it out."""
    # a generator per step, so that the draws of one do not shift those of the next
    entropy = [get_args(Split).index(split), seed, index]
    view_rng, lesion_rng, camera_rng = (np.random.default_rng([*entropy, stream]) for stream in range(3))
    view = _draw_view(view_rng, split)
    crop = _crop(view, size)
    painted = crop if target == 0 else _paint(lesion_rng, crop, view, _KINDS[target - 1])
    mask = None if target == 0 else torch.from_numpy(np.abs(painted - crop).max(axis=0, keepdims=True) > _VISIBLE)
    return torch.from_numpy(_photograph_again(camera_rng, painted)), mask


# The photograph and the view -----------------------------------------------------------------------------------------

_VISIBLE = 0.03  # about 8 of 255 grey levels: fainter edges are not seen
_SPLIT_ROW = 688  # 43 blocks of 16 pixels: no block of the JPEG is shared
_CENTRE = np.array([704.0, 702.0])  # (x, y) of the illuminated circle
_RADIUS = 684.0  # a little inside the circle's blurred rim
_SIDES = (160.0, 320.0)  # of the window, in pixels of the photograph
_DISC = np.array([220.0, 650.0])
_DISC_RADIUS = 115.0
_FOVEA = np.array([705.0, 700.0])


class _View(NamedTuple):
    """A window of the photograph: photo = centre + matrix @ crop, with crop coordinates (x, y) in [-1, 1]."""

    rows: tuple[int, int]
    centre: Points
    matrix: Points

    def to_crop(self, point: Points) -> Points:
        return np.linalg.solve(self.matrix, point - self.centre).astype(np.float64)

    @property
    def half_side(self) -> float:
        return math.sqrt(abs(float(np.linalg.det(self.matrix))))


@cache
def _photograph(rows: tuple[int, int]) -> Array:
    """Load one part of the photograph, (3, rows, columns) in [0, 1]; the parts share no pixel."""
    from skimage.data import retina

    photograph: NDArray[np.uint8] = retina()  # type: ignore[no-untyped-call]  # scikit-image ships no types
    part = photograph[slice(*rows)].transpose(2, 0, 1)
    return np.ascontiguousarray(part, np.float32) / np.float32(255)


def _draw_view(rng: Generator, split: Split) -> _View:
    # log-uniform, because zoom acts by factors: from 160 to 200 pixels is as large a step as from 256 to 320
    half = 0.5 * math.exp(rng.uniform(math.log(_SIDES[0]), math.log(_SIDES[1])))
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin, mirror = math.cos(angle), math.sin(angle), rng.choice([-1.0, 1.0])
    matrix = half * np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    rows = (_SPLIT_ROW, 1411) if split == "test" else (0, _SPLIT_ROW)
    reach = half * (abs(cos) + abs(sin))
    return _View(rows, _fit(_aim(rng), rows, reach, half * math.sqrt(2)), matrix)


def _aim(rng: Generator) -> Points:
    """Draw a point to look at: anywhere in most cases, else on the rim of the disc or around the fovea."""
    # chance alone would seldom show those two, which the model has to tell from lesions
    anywhere = _CENTRE + rng.uniform(-_RADIUS, _RADIUS, 2)
    bearing = rng.uniform(0, 2 * math.pi)
    rim = _DISC + _DISC_RADIUS * np.array([math.cos(bearing), math.sin(bearing)])
    fovea = _FOVEA + rng.normal(0, 50, 2)
    aims: Points = np.stack([anywhere, rim, fovea])
    chosen: Points = aims[rng.choice(3, p=[0.7, 0.18, 0.12])]
    return chosen


def _fit(aim: Points, rows: tuple[int, int], reach: float, diagonal: float) -> Points:
    """Move the aim, first to a row, then along the row, so that the window stays in its part and in the circle."""
    limit = _RADIUS - diagonal
    low, high = max(rows[0] + reach, _CENTRE[1] - limit), min(rows[1] - reach, _CENTRE[1] + limit)
    y = min(max(aim[1], low), high)
    chord = math.sqrt(max(limit**2 - (y - _CENTRE[1]) ** 2, 0.0))
    return np.array([min(max(aim[0], _CENTRE[0] - chord), _CENTRE[0] + chord), y])


def _crop(view: _View, size: int) -> Array:
    """Rotate, mirror, scale and cut in one bilinear resampling, (3, size, size)."""
    # Not grid_sample: operations this small lose a factor of ten when torch's threads share busy cores.
    part = _photograph(view.rows)
    rows, columns = part.shape[1:]
    x, y = _positions(view, size)
    (left, right), (top, bottom) = _neighbours(x, columns), _neighbours(y, rows)
    corner, pixels = top * columns + left, part.reshape(3, -1)
    upper, lower = (_between(pixels, first, first + 1, right) for first in (corner, corner + columns))
    return upper + bottom * (lower - upper)


def _between(pixels: Array, first: NDArray[np.intp], second: NDArray[np.intp], weight: Array) -> Array:
    """Mix two pixels of each channel, chosen by their indices: all weight 0 gives the first."""
    start, end = pixels.take(first, axis=1), pixels.take(second, axis=1)
    return start + weight * (end - start)


def _positions(view: _View, size: int) -> Points:
    """Map the middle of each pixel of the crop to its part of the photograph, x and y, (2, size, size)."""
    origin = view.centre - [0.5, view.rows[0] + 0.5]
    along_x, along_y, start = (vector[:, None, None] for vector in (*view.matrix.T, origin))
    positions: Points = start + along_x * _middles(size) + along_y * _middles(size)[:, None]
    return positions


def _neighbours(position: Points, length: int) -> tuple[NDArray[np.intp], Array]:
    """Return the pixel before each position, and the weight of the one after it; never beyond the last pixel."""
    before = np.clip(position.astype(np.intp), 0, length - 2)
    return before, np.clip(position - before, 0, 1).astype(np.float32)


def _middles(size: int) -> Points:
    """Return the middles of the pixels of a row of the crop, from -1 to 1."""
    middles: Points = (np.arange(size) + 0.5) * 2 / size - 1
    return middles


# The lesions ---------------------------------------------------------------------------------------------------------

_BRIGHTEST = np.array([1.0, 0.88, 0.72], np.float32)[:, None, None]  # the disc's: near it, paint must not glow


class _Kind(NamedTuple):
    """Appearance of one kind of lesion. Lengths are relative to the blob's radius, colours to the local background."""

    shape: Callable[[Generator, _View], list["_Blob"]]
    colour: tuple[float, float, float]
    softness: float
    roughness: float
    opacity: tuple[float, float]


class _Blob(NamedTuple):
    """A rough ellipse in crop coordinates."""

    centre: Points
    radius: float
    elongation: float
    angle: float


def _paint(rng: Generator, crop: Array, view: _View, kind: _Kind) -> Array:
    size = crop.shape[-1]
    texture = _texture(rng, size)
    blobs = kind.shape(rng, view)
    alpha = _cover(blobs, texture, kind) * np.float32(rng.uniform(*kind.opacity))
    tint = np.array(kind.colour, np.float32) * rng.normal(1, 0.05, 3).astype(np.float32)
    # Some of the crop's own texture shows through, or the paint would look like plastic.
    base = 0.65 * _background(crop) + 0.35 * crop
    lesion = np.minimum(base * tint[:, None, None] * (1 + 0.06 * texture), _BRIGHTEST)
    return (crop + alpha * (lesion - crop)).astype(np.float32, copy=False)


def _background(crop: Array) -> Array:
    """Blur the crop to the colour around each pixel, without vessels and grain, (3, size, size)."""
    size = crop.shape[-1]
    return _resample(_resample(crop, _pooling(size, 8)), _stretching(8, size, "bilinear"))


def _texture(rng: Generator, size: int) -> Array:
    """Draw smooth noise of two octaves in [-1, 1], (size, size)."""
    coarse, fine = (
        _resample(rng.standard_normal((cells, cells), np.float32), _stretching(cells, size, "bicubic")) for cells in (14, 44)
    )
    mixed: Array = np.clip(0.35 * coarse + 0.45 * fine, -1, 1)
    return mixed


def _resample(grid: Array, matrix: Array) -> Array:
    """Apply a matrix to the rows and to the columns of the grid."""
    # Not @: the threads of a BLAS cost more than products this small, on busy cores ten times more.
    wide = np.einsum("...rc,kc->...kr", grid, matrix)
    return np.ascontiguousarray(np.einsum("...kr,jr->...jk", wide, matrix))


@cache
def _pooling(size: int, cells: int) -> Array:
    """Return the matrix that averages a row, (cells, size)."""
    matrix: Array = adaptive_avg_pool1d(torch.eye(size).double(), cells).T.float().contiguous().numpy()
    return matrix


@cache
def _stretching(cells: int, size: int, mode: str) -> Array:
    """Return the matrix that interpolates a row, (size, cells)."""
    # in double precision, and rounded once: in single it depends on the instructions of the CPU
    matrix: Array = interpolate(torch.eye(cells).double()[None, None], (size, cells), mode=mode)[0, 0].float().numpy()
    return matrix


def _cover(blobs: list[_Blob], texture: Array, kind: _Kind) -> Array:
    """Compute the opacity of all blobs together in [0, 1], (size, size)."""
    clear = np.ones_like(texture)
    for blob in blobs:
        # No edge is sharper than the photograph: 1.5 pixels of the crop at least.
        softness = max(kind.softness, 3.0 / (len(texture) * blob.radius))
        window = _window(blob, 1 + kind.roughness + softness / 2, len(texture))
        # transparencies multiply, so that overlapping blobs stay below 1 in any order
        clear[window] *= 1 - _opacity(blob, window, kind.roughness * texture[window], softness, len(texture))
    return 1 - clear


def _window(blob: _Blob, reach: float, size: int) -> tuple[slice, slice]:
    """Return the rows and columns that the blob can touch, because computing the rest would be wasted."""
    extent = blob.radius * math.sqrt(blob.elongation) * reach
    edges = (np.array([blob.centre - extent, blob.centre + extent]) + 1) * size / 2
    (left, top), (right, bottom) = np.clip(edges.round(), 0, size).astype(int)
    return slice(top, bottom), slice(left, right)


def _opacity(blob: _Blob, window: tuple[slice, slice], raggedness: Array, softness: float, size: int) -> Array:
    """Compute the opacity of a blob: 1 inside the ragged ellipse, 0 outside, a smooth step between."""
    level = np.clip((1 - _distance(blob, window, size) + raggedness) / softness + 0.5, 0, 1)
    smooth: Array = level * level * (3 - 2 * level)
    return smooth


def _distance(blob: _Blob, window: tuple[slice, slice], size: int) -> Array:
    """Compute the distance from the centre, 1 on the ellipse, at the middles of the window's pixels."""
    y, x = (_middles(size)[span] - middle for span, middle in zip(window, blob.centre[::-1], strict=True))
    cos, sin = math.cos(blob.angle), math.sin(blob.angle)
    along = (x * cos)[None, :] + (y * sin)[:, None]
    across = (y * cos)[:, None] - (x * sin)[None, :]
    distance: Points = np.sqrt(along**2 / blob.elongation + across**2 * blob.elongation) / blob.radius
    return distance.astype(np.float32)


def _site(rng: Generator, view: _View) -> Points:
    """Draw a place for a lesion off the optic disc, which would hide exudates and cotton-wool spots."""
    # the best of eight places, because a loop until one fits could run forever on a crop full of the disc
    places: Points = rng.uniform(-0.76, 0.76, (8, 2))
    clearance = np.linalg.norm(places - view.to_crop(_DISC), axis=1) - _DISC_RADIUS / view.half_side
    # clearances above a quarter are equal, and argmax takes the first: lesions do not gather in the farthest corner
    chosen: Points = places[np.argmax(np.minimum(clearance, 0.25))]
    return chosen


def _fibres(rng: Generator, view: _View, place: Points) -> float:
    """Draw a direction near that of the nerve fibres, which fan out from the disc; superficial lesions follow it."""
    away = place - view.to_crop(_DISC)
    return math.atan2(away[1], away[0]) + rng.normal(0, 0.25)


def _exudates(rng: Generator, view: _View) -> list[_Blob]:
    return [blob for _ in range(rng.integers(1, 4)) for blob in _cluster(rng, _site(rng, view))]


def _cluster(rng: Generator, site: Points) -> list[_Blob]:
    count = int(rng.integers(6, 17))
    scatter = _arc(rng, count) if rng.random() < 0.35 else rng.normal(0, rng.uniform(0.07, 0.15), (count, 2))
    radii = rng.uniform(0.018, 0.038) * rng.lognormal(0, 0.35, count)
    return [
        _Blob(site + shift, float(radius), rng.uniform(1, 1.8), rng.uniform(0, math.pi))
        for shift, radius in zip(scatter, radii, strict=True)
    ]


def _arc(rng: Generator, count: int) -> Points:
    """Draw places on part of a ring, because exudates settle around the leaking vessel."""
    bearings = rng.uniform(0, 2 * math.pi) + rng.uniform(0, rng.uniform(2, 5), count)
    radius = rng.normal(rng.uniform(0.15, 0.35), 0.03, count)
    return np.stack([radius * np.cos(bearings), radius * np.sin(bearings)], axis=1)


def _haemorrhages(rng: Generator, view: _View) -> list[_Blob]:
    """Draw one blot or flame and up to three more of any form."""
    forms = (_blot, _flame, _dot)
    # dots alone would be too small to find
    chosen = [rng.integers(2), *rng.integers(3, size=rng.integers(0, 4))]
    return [blob for form in chosen for blob in forms[form](rng, view)]


def _dot(rng: Generator, view: _View) -> list[_Blob]:
    return [_Blob(_site(rng, view), rng.uniform(0.03, 0.06), rng.uniform(1, 1.3), rng.uniform(0, math.pi))]


def _blot(rng: Generator, view: _View) -> list[_Blob]:
    return [_Blob(_site(rng, view), rng.uniform(0.07, 0.15), rng.uniform(1, 1.6), rng.uniform(0, math.pi))]


def _flame(rng: Generator, view: _View) -> list[_Blob]:
    """Draw streaks side by side along the nerve fibres, ragged at both ends."""
    site = _site(rng, view)
    angle, radius = _fibres(rng, view, site), rng.uniform(0.04, 0.065)
    along = np.array([math.cos(angle), math.sin(angle)])
    shifts = rng.normal(0, radius, (int(rng.integers(7, 14)), 2)) * [1.4, 0.6]
    return [
        _Blob(site + u * along + v * along[::-1] * [-1, 1], radius, rng.uniform(3, 8), angle + rng.normal(0, 0.06))
        for u, v in shifts
    ]


def _cotton_wool(rng: Generator, view: _View) -> list[_Blob]:
    return [blob for _ in range(rng.integers(1, 4)) for blob in _puffs(rng, view)]


def _puffs(rng: Generator, view: _View) -> list[_Blob]:
    site = _site(rng, view)
    angle, radius = _fibres(rng, view, site) + math.pi / 2, rng.uniform(0.045, 0.085)
    along = np.array([math.cos(angle), math.sin(angle)])
    shifts = rng.normal(0, radius, (int(rng.integers(4, 9)), 2)) * [1.0, 0.5]
    return [
        _Blob(site + u * along + v * along[::-1] * [-1, 1], radius * rng.uniform(0.6, 1.1), rng.uniform(1, 1.6), angle)
        for u, v in shifts
    ]


_KINDS = (
    _Kind(_exudates, (1.2, 2.4, 1.6), softness=0.5, roughness=0.4, opacity=(0.45, 1.0)),
    _Kind(_haemorrhages, (0.77, 0.34, 0.46), softness=0.7, roughness=0.45, opacity=(0.45, 0.95)),
    _Kind(_cotton_wool, (1.13, 1.95, 2.2), softness=2.0, roughness=0.3, opacity=(0.35, 0.85)),
)


# The camera ----------------------------------------------------------------------------------------------------------


def _photograph_again(rng: Generator, scene: Array) -> Array:
    """Simulate a camera: illumination, exposure, white balance, gamma and grain.

    Each pixel changes by itself, so that the mask stays exact, and more than by any lesion, so that brightness alone
    does not tell the class.
    """
    size = scene.shape[-1]
    gain = np.exp(rng.uniform(-0.4, 0.08) + rng.normal(0, 0.06, 3)).astype(np.float32)
    light = gain[:, None, None] * _illumination(rng, size)
    tone = np.power(scene, np.float32(rng.uniform(0.75, 1.35))) * light
    grain = rng.standard_normal(scene.shape, np.float32) * np.float32(rng.uniform(0.004, 0.02))
    image: Array = np.clip(tone + grain, 0, 1)
    return image


def _illumination(rng: Generator, size: int) -> Array:
    """Draw a tilted plane around 1, (size, size)."""
    slope = rng.uniform(-0.15, 0.15, 2).astype(np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    plane: Array = 1 + slope[0] * ramp[None, :] + slope[1] * ramp[:, None]
    return plane
