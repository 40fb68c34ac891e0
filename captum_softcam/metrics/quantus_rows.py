"""The metrics that a class of Quantus works out, played on the board of an image's patches.

Quantus sees a picture of one channel and g x g pixels, each a patch of the image: no channel is perturbed apart, and all
its settings count patches. The patches of signals and volumes lie in a row. It gets each map on [0, 1] by its own least and
greatest value, because it refuses a batch of negative evidence alone; or the ranks of the patches, where it reads their
order, because its sort does not keep equal values in place.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._maps import is_flat, rescale
from captum_softcam.metrics.batch import Explanation
from captum_softcam.metrics.functional._edges import wide
from captum_softcam.metrics.functional._grid import ranks
from captum_softcam.metrics.metric import Curve, Metric

__all__ = ["QUANTUS"]

_IMAGES = 4  # dimensions


def _region_perturbation(explanation: Explanation, *, regions_evaluation: int) -> Tensor:
    """Mean fall of the probability over the regions taken, the untouched image included as the first."""
    drops = _ask(
        explanation, "RegionPerturbation", _order(explanation), True, patch_size=1, regions_evaluation=regions_evaluation
    )
    return drops.sum(1) / (drops.shape[1] + 1)


def _faithfulness_estimate(explanation: Explanation) -> Tensor:
    """Correlation of each patch's sum with the fall of the logit without it; probabilities saturate."""
    return _ask(explanation, "FaithfulnessEstimate", explanation.patch_sums, False, features_in_step=1)


def _pixel_flipping(explanation: Explanation) -> Curve:
    return _whole_curve(explanation, _ask(explanation, "PixelFlipping", _order(explanation), True, features_in_step=1))


def _selectivity(explanation: Explanation, *, patch_size: int) -> Curve:
    if explanation.maps.dim() != _IMAGES:
        raise ValueError(f"maps are {tuple(explanation.maps.shape)}; selectivity takes squares of images, (N, 1, H, W).")
    for count in explanation.batch.counts:
        if count % patch_size:
            raise ValueError(
                f"{count} patches per side cannot be taken {patch_size} x {patch_size} at a time; expected a multiple of "
                f"{patch_size}: choose other patches for the Batch."
            )
    return _whole_curve(explanation, _ask(explanation, "Selectivity", explanation.patch_sums, True, patch_size=patch_size))


def _order(explanation: Explanation) -> Tensor:
    """Each patch by its place, the strongest first and highest."""
    means = explanation.patch_means
    return means[0].numel() - ranks(means)


def _whole_curve(explanation: Explanation, points: Tensor) -> Curve:
    """The curve with the untouched image, which Quantus leaves out, in front."""
    first = explanation.batch.confidence[:, None].to(points)
    curve = torch.cat([first.masked_fill(points[:, :1].isnan(), torch.nan), points], 1)
    return Curve(curve, torch.linspace(0, 1, curve.shape[1]))


def _ask(explanation: Explanation, name: str, attributions: Tensor, softmax: bool, **settings: Any) -> Tensor:
    """What a fresh instance of a Quantus class says of the board and the attributions of its patches (N, 1, g, g).

    A map that ranks nothing goes along as a slope, for the game needs all its images; what it gets is NaN.
    """
    game = explanation.batch.game
    board = game.full_board
    if attributions.dim() != _IMAGES:  # the classes that take patch by patch do not look where they lie
        board, attributions = (values.reshape(len(values), 1, 1, -1) for values in (board, attributions))
    flat = is_flat(explanation.maps) | is_flat(attributions)
    slope = torch.linspace(0, 1, attributions[0].numel(), device=attributions.device).view_as(attributions[0])
    values = rescale(torch.where(flat.view(-1, 1, 1, 1), slope.to(wide(attributions)), wide(attributions)))
    answer = _call(name, game, board, explanation.batch.targets, values, softmax, settings)
    scores = torch.from_numpy(answer).to(values)
    return scores.masked_fill(flat.view(-1, *[1] * (scores.dim() - 1)), torch.nan)


def _call(
    name: str,
    model: torch.nn.Module,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    softmax: bool,
    settings: dict[str, Any],
) -> NDArray[np.float64]:
    import quantus  # takes seconds
    from scipy.stats import ConstantInputWarning, NearConstantInputWarning

    metric = getattr(quantus, name)(
        **settings, perturb_baseline=0.0, abs=False, normalise=False, return_aggregate=False, disable_warnings=True
    )
    marks = _copy(attributions)
    marks.flags.writeable = False  # some Quantus metrics write into what they are given
    with warnings.catch_warnings():
        for constant in (ConstantInputWarning, NearConstantInputWarning):  # a score that never moves: NaN says so
            warnings.simplefilter("ignore", constant)
        answer = metric(
            model=model,
            x_batch=_copy(inputs),
            y_batch=_copy(targets),
            a_batch=marks,
            channel_first=True,
            softmax=softmax,
            device="cpu",  # of the boards; the game brings them to its images
            batch_size=len(inputs),
        )
    return np.asarray(answer, dtype=np.float64)


def _copy(values: Tensor) -> NDArray[Any]:
    return values.detach().cpu().numpy().copy()


QUANTUS = (
    Metric(
        name="region_perturbation",
        title="Region perturbation",
        category="faithfulness",
        # Quantus declares lower as better; with the most relevant first, a large fall is what a good map causes
        higher_is_better=True,
        source="samek2017evaluating",
        forwards=32,
        function=_region_perturbation,
        settings={"regions_evaluation": 32},
        origin="quantus",
        default=True,
    ),
    Metric(
        name="faithfulness_estimate",
        title="Faithfulness estimate",
        category="faithfulness",
        higher_is_better=True,
        source="alvarez2018towards",
        forwards=64,
        function=_faithfulness_estimate,
        origin="quantus",
    ),
    Metric(
        name="pixel_flipping",
        title="Pixel flipping",
        category="faithfulness",
        higher_is_better=False,
        source="bach2015pixelwise",
        forwards=64,
        function=_pixel_flipping,
        origin="quantus",
    ),
    Metric(
        name="selectivity",
        title="Selectivity",
        category="faithfulness",
        higher_is_better=False,
        source="montavon2018methods",
        forwards=16,
        function=_selectivity,
        settings={"patch_size": 2},
        origin="quantus",
    ),
)
