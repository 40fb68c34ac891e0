"""Distances of maps in units of the maps themselves, because methods have units of their own."""

from __future__ import annotations

import math

from torch import Tensor

from captum_softcam.metrics.functional._edges import refuse_other_maps, wide

__all__ = ["followed", "refuse_other_versions", "relative_distances"]

_ROUNDING = 1e-5  # of the norm of a map: below it, maps are equal


def relative_distances(maps: Tensor, others: Tensor) -> Tensor:
    """Compute the distance of other maps (N, R, ...) from the maps (N, 1, ...) by the norm of the maps, (N, R)."""
    own = wide(maps).flatten(2)
    distances: Tensor = (wide(others).flatten(2) - own).norm(dim=2) / own.norm(dim=2)
    return distances


def followed(moved: Tensor, expected: Tensor, stayed: Tensor) -> Tensor:
    """Compute how far maps (N, positions) are as expected, and not as if nothing had moved, (N,) in [0, 1].

    1 where a map is as expected, 0 where it stayed, 1/2 where it is as far from both; NaN where both are the same.
    """
    moved, expected, stayed = wide(moved), wide(expected), wide(stayed)
    to_expected: Tensor = (moved - expected).norm(dim=1)
    to_stayed: Tensor = (moved - stayed).norm(dim=1)
    # A map that is its own mirror image would otherwise be scored by rounding errors.
    same = (expected - stayed).norm(dim=1) <= _ROUNDING * (expected.norm(dim=1) + stayed.norm(dim=1))
    return (to_stayed / (to_stayed + to_expected)).masked_fill(same, math.nan)


def refuse_other_versions(maps: Tensor, **versions: Tensor) -> None:
    """Raise ValueError unless there is at least one further map of each of the maps (N, 1, ...), (N, R, ...)."""
    refuse_other_maps(maps)
    for name, others in versions.items():
        if (
            others.dim() != maps.dim()
            or len(others) != len(maps)
            or others.shape[2:] != maps.shape[2:]
            or not others.shape[1]
        ):
            raise ValueError(
                f"{name} are {tuple(others.shape)} and maps {tuple(maps.shape)}; expected (N, R, ...), R further maps of "
                "each sample, of the size of its map."
            )
