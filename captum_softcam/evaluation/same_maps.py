"""Methods that give the same map: found in each batch, and counted over all samples of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._maps import is_flat, rescale

__all__ = ["TOLERANCE", "SameMaps", "SameMapsFinder", "same_maps"]

TOLERANCE = 1e-4
"""Largest deviation of equal maps, relative to the range of a map.

Two ways to compute a map in single precision differ by 1e-7 to 1e-5 of its range; CAM, Grad-CAM and Recipro-CAM by 4e-7 on
EfficientNet-Lite0. A deviation of 1e-4 is far below the steps of a colour scale, 4e-3, and of stored examples, 1e-3.
"""

_MOST_POSITIONS = 2**16  # compared in each map: all of 256 x 256, and every k-th of a larger one
_NO_MAP = -1


class SameMaps(NamedTuple):
    """Methods whose maps are the same up to a positive factor, and perhaps a constant, in every sample.

    Args:
        methods (tuple of str): names of the methods, in the order of the run.
        samples (int): number of samples in which they have maps that are finite and not flat.
        constant (bool): whether the maps differ by a constant as well, so that their zeros differ.
    """

    methods: tuple[str, ...]
    samples: int
    constant: bool


class SameMapsFinder:
    r"""Finds the methods whose maps of a batch are the same.

    Two maps A and B of a sample are the same if :math:`A = a B + b` with :math:`a > 0`, up to :data:`TOLERANCE` of their
    range. Then they order all positions alike. A map that is a nonlinear increasing function of another at the layer is not
    counted, because upsampling does not keep the order of the two alike. Flat and non-finite maps have no order and are
    equal to none.

    Cost: a comparison of at most 65,536 positions per sample and pair of methods, and these positions in memory.

    Args:
        record (ndarray): (N, M, 2) of N samples and M methods, filled with the place of the first method that has the same
            map: up to scale and constant, and up to scale. -1 where there is no map.
    """

    def __init__(self, record: NDArray[np.int16]) -> None:
        record.fill(_NO_MAP)
        self._record = record
        self._seen: dict[int, _Shapes] = {}

    def add(self, place: int, maps: Tensor) -> None:
        """Compare the maps of a method with those of the methods before.

        Args:
            place (int): position of the method among the M.
            maps (Tensor): its maps (N, 1, ...) at input resolution.
        """
        own = _Shapes.of(maps)
        self._record[own.known, place] = place
        for other, shapes in reversed(self._seen.items()):  # the first method comes last, and stays
            self._record[own.equals(shapes, constant=True), place, 0] = other
            self._record[own.equals(shapes, constant=False), place, 1] = other
        self._seen[place] = own


class _Shapes(NamedTuple):
    """Maps on a common scale: some of their positions, scaled to [0, 1], with minimum and range."""

    known: NDArray[np.bool_]
    cells: Tensor
    low: Tensor
    span: Tensor

    @classmethod
    def of(cls, maps: Tensor) -> _Shapes:
        # In half precision, scaling would round different maps to the same one.
        maps = maps.detach().to(torch.promote_types(maps.dtype, torch.float32))
        every = -(-maps[0].numel() // _MOST_POSITIONS)
        cells = rescale(maps).flatten(1)[:, ::every].float().contiguous()  # a view would keep the whole maps
        # On the CPU, because not every device has float64.
        low, high = (end.cpu().double() for end in maps.flatten(1).aminmax(dim=1))
        return cls((~is_flat(maps)).cpu().numpy(), cells, low, high - low)

    def equals(self, other: _Shapes, *, constant: bool) -> NDArray[np.bool_]:
        """Return whether each map is the same, (N,); with ``constant`` also up to a constant."""
        equal = ((self.cells - other.cells).abs().amax(dim=1) <= TOLERANCE).cpu()
        if not constant:
            equal &= (self.low / self.span - other.low / other.span).abs() <= TOLERANCE
        return np.asarray(equal.numpy() & self.known & other.known)


def same_maps(records: Sequence[NDArray[np.int16] | None], methods: Sequence[str]) -> list[SameMaps]:
    """Return the groups of methods whose maps are the same in all samples in which both have one.

    Args:
        records (sequence of ndarray): records of all batches, as :class:`SameMapsFinder` fills them; None for a batch of an
            earlier version, with which nothing can be said.
        methods (sequence of str): names of the methods.

    Returns:
        list of SameMaps: groups of two methods or more; none is in two of them.
    """
    known = [record for record in records if record is not None]
    if not known or len(known) < len(records):
        return []
    record = np.concatenate(known)
    return [_described(record, group, methods) for group in _groups(record) if len(group) > 1]


def _groups(record: NDArray[np.int16]) -> Iterator[list[int]]:
    rest = list(range(record.shape[1]))
    while rest:
        group = [rest[0]]
        for place in rest[1:]:
            if all(_same(record[:, [place, other], 0]) for other in group):
                group.append(place)
        yield group
        rest = [place for place in rest if place not in group]


def _same(labels: NDArray[np.int16]) -> bool:
    """Return whether two methods, (S, 2), have the same map wherever both have one, and do have one somewhere."""
    both = labels[(labels != _NO_MAP).all(axis=1)]
    return len(both) > 0 and bool((both[:, 0] == both[:, 1]).all())


def _described(record: NDArray[np.int16], group: Sequence[int], methods: Sequence[str]) -> SameMaps:
    labels = record[:, group]
    pairs = list(combinations(range(len(group)), 2))
    return SameMaps(
        methods=tuple(methods[place] for place in group),
        samples=min(int((labels[:, pair, 0] != _NO_MAP).all(axis=1).sum()) for pair in pairs),
        constant=not all(_same(labels[:, pair, 1]) for pair in pairs),
    )
