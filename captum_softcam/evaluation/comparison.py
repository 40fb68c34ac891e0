"""What a comparison leaves behind: scores per sample, what they cost, how they were made, and maps to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import Tensor

from captum_softcam.data import Sample

__all__ = ["Comparison", "Example"]


@dataclass(frozen=True)
class Example:
    """A sample with its maps, for a picture.

    Args:
        sample (Sample): image, class and mask.
        target (int): the class that is explained.
        maps (dict): maps (1, H, W) of that class by method.
        probabilities (Tensor): of all classes, (K,). Default: None
        rival (int): another class, the strongest beside ``target``. Default: None
        rival_maps (dict): maps (1, H, W) of the rival by method. Default: none
    """

    sample: Sample
    target: int
    maps: dict[str, Tensor]
    probabilities: Tensor | None = None
    rival: int | None = None
    rival_maps: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Methods x metrics x samples.

    Args:
        scores (DataFrame): one row per sample, method and metric, with the columns ``sample, label, target, prediction,
            method, metric, score``; an undefined score is NaN, and counted.
        costs (DataFrame): indexed by method, with the columns ``forwards`` and ``backwards`` (images that go through the
            model per image explained), ``seconds`` (per image), ``relative`` (to a plain forward of the same images in the
            same run) and ``peak_bytes`` (memory beyond what was there before, of one batch).
        manifest (dict): versions, seeds, model, layer, data, methods and metrics with their settings; JSON.
        curves (DataFrame): one row per sample, method and metric that draws a curve, with the columns ``sample, method,
            metric`` and one for each fraction, named by it (``"0"`` ... ``"1"``). Default: empty
        failures (DataFrame): one row per sample, method and metric that raised an error, with the columns ``sample, method,
            metric, error``; the metric is empty where the method itself failed. Default: empty
        examples (list of Example): a few samples with their maps. Default: none
    """

    scores: pd.DataFrame
    costs: pd.DataFrame
    manifest: dict[str, Any]
    curves: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["sample", "method", "metric"]))
    failures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["sample", "method", "metric", "error"]))
    examples: list[Example] = field(default_factory=list)
