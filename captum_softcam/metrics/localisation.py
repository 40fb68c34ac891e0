"""Does the map lie on the mask? Four Quantus metrics, with the maps handed over in the form each one reads rightly.

A map may be signed. The pointing game and the AUC read its order alone; the rank accuracy too, with ties in reading
order; the mass accuracy reads the positive part, for negative evidence speaks against the class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captum_softcam._maps import rescale
from captum_softcam.metrics.metric import Metric

__all__ = ["LOCALISATION", "positive_part", "ranks", "unit_range"]


def unit_range(maps: NDArray[Any]) -> NDArray[Any]:
    """Each map on [0, 1] by its own least and greatest value."""
    return np.asarray(rescale(torch.from_numpy(maps.astype(np.float64))).numpy(), dtype=np.float64)


def positive_part(maps: NDArray[Any]) -> NDArray[Any]:
    """Each map without its negative values, as shares of its own sum; NaN where nothing is positive."""
    positive = np.maximum(maps.astype(np.float64), 0)
    total = positive.sum(axis=(1, 2, 3), keepdims=True)
    shares = np.full_like(positive, np.nan)
    np.divide(positive, total, where=total > 0, out=shares)
    return shares


def ranks(maps: NDArray[Any]) -> NDArray[Any]:
    """Each map by rank: the greatest value gets the number of positions, the least 1; ties in reading order."""
    cells = maps.reshape(len(maps), -1)
    order = np.argsort(-cells, axis=1, kind="stable")
    numbers = np.empty(cells.shape)
    np.put_along_axis(numbers, order, np.arange(cells.shape[1], 0, -1)[None], axis=1)
    return numbers.reshape(maps.shape)


LOCALISATION = (
    Metric(
        name="pointing_game",
        title="Pointing game",
        category="localisation",
        higher_is_better=True,
        source="zhang2018pointing",
        forwards=0,
        quantus_class="PointingGame",
        settings={"weighted": False},
        prepare=unit_range,
    ),
    Metric(
        name="relevance_mass_accuracy",
        title="Relevance mass",
        category="localisation",
        higher_is_better=True,
        source="arras2022clevr",
        forwards=0,
        quantus_class="RelevanceMassAccuracy",
        settings={},
        prepare=positive_part,
    ),
    Metric(
        name="relevance_rank_accuracy",
        title="Relevance rank",
        category="localisation",
        higher_is_better=True,
        source="arras2022clevr",
        forwards=0,
        quantus_class="RelevanceRankAccuracy",
        settings={},
        prepare=ranks,
    ),
    Metric(
        name="pixel_auc",
        title="Pixel AUC",
        category="localisation",
        higher_is_better=True,
        source="hedstrom2023quantus",
        forwards=0,
        quantus_class="AUC",
        settings={},
        prepare=unit_range,
    ),
)
