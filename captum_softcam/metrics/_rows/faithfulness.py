"""Rows of faithfulness: whether the model needs what a map marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from captum_softcam.metrics import functional
from captum_softcam.metrics.metric import Curve, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from captum_softcam.metrics.batch import Explanation

__all__ = ["ROWS", "by_order"]


def _on_board(name: str, explanation: Explanation, attributions: Tensor, perturb_baseline: str, **settings: Any) -> Tensor:
    """Call a function of images and maps with the board and the attributions of its patches (N, 1, g, g)."""
    batch = explanation.batch
    game = batch.game_with(perturb_baseline)
    board = game.full_board
    # Each position of the board is a patch, and 0 removes it.
    scores: Tensor = getattr(functional, name)(
        game,
        board,
        attributions,
        batch.targets,
        board.new_zeros(()),
        scores=batch.scores,
        **{"patches": None, **settings},
    )
    return scores


def by_order(name: str, explanation: Explanation, **settings: Any) -> Tensor:
    """Call a function of images and maps with the board and the mean of the map over each of its patches."""
    return _on_board(name, explanation, explanation.patch_means, **settings)


def _by_sums(name: str, explanation: Explanation, **settings: Any) -> Tensor:
    return _on_board(name, explanation, explanation.patch_sums, **settings)


def _by_random_sums(name: str, explanation: Explanation, **settings: Any) -> Tensor:
    return _by_sums(name, explanation, seed=explanation.batch.seed, **settings)


def _curve(name: str, explanation: Explanation, *, steps: int, **baseline: str) -> Curve:
    points = by_order(name, explanation, steps=steps, **baseline)
    return Curve(points, functional.step_fractions(explanation.batch.counts, patches=None, steps=steps))


def _pixel_flipping(explanation: Explanation, **baseline: str) -> Curve:
    return _curve("deletion_curve", explanation, steps=math.prod(explanation.batch.counts), **baseline)


def _selectivity(explanation: Explanation, *, patch_size: int, **baseline: str) -> Curve:
    counts = explanation.batch.counts
    for count in counts:
        if count % patch_size:
            raise ValueError(
                f"a side of {count} patches cannot be cut into blocks of {patch_size}; expected a multiple of {patch_size}: "
                "choose other patches for the Batch."
            )
    # Blocks are ranked by the sum of the map, as in the paper; they are of one size, so that the mean of sums ranks alike.
    blocks = [count // patch_size for count in counts]
    steps = math.prod(blocks)
    points = _by_sums("deletion_curve", explanation, patches=blocks, steps=steps, **baseline)
    return Curve(points, functional.step_fractions(counts, patches=blocks, steps=steps))


def _road(explanation: Explanation, *, fractions: Sequence[float], noise: float) -> Curve:
    import torch

    from captum_softcam.metrics.functional.imputation import stays_predicted

    batch = explanation.batch
    points = functional.road_curve(
        batch.forward,
        batch.images,
        explanation.maps,
        batch.targets,
        fractions=fractions,
        noise=noise,
        seed=batch.seed,
        scores=batch.scores,
    )
    # The curve of the function begins after the first removal; the untouched image completes the area.
    whole = stays_predicted(batch.outputs, batch.targets, batch.scores).to(points)[:, None]
    # A map that ranks nothing has no curve, although its first point does not depend on the map.
    whole = whole.masked_fill(points[:, :1].isnan(), torch.nan)
    return Curve(torch.cat([whole, points], 1), torch.tensor([0.0, *fractions]))


def _single_deletion(explanation: Explanation, *, cells: int | Sequence[int], **baseline: str) -> Tensor:
    return _by_sums("single_deletion", explanation, patches=cells, **baseline)


def _irof(explanation: Explanation, *, steps: int, perturb_baseline: str) -> Tensor:
    batch = explanation.batch
    own = batch.targets, batch.replacement(perturb_baseline), batch.superpixels
    return functional.irof(batch.forward, batch.images, explanation.maps, *own, steps=steps, scores=batch.scores)


def _average_drop(explanation: Explanation) -> Tensor:
    return functional.average_drop(explanation.batch.confidence, explanation.masked_confidence)


def _increase_in_confidence(explanation: Explanation) -> Tensor:
    return functional.increase_in_confidence(explanation.batch.confidence, explanation.masked_confidence)


def _coherency(explanation: Explanation) -> Tensor:
    return functional.coherency(explanation.maps, explanation.masked_maps)


def _adcc(explanation: Explanation) -> Tensor:
    parts = _average_drop(explanation), _coherency(explanation), functional.map_complexity(explanation.maps)
    return functional.adcc(*parts)


def _arcc(explanation: Explanation, *, fractions: Sequence[float], noise: float) -> Tensor:
    batch = explanation.batch
    options: dict[str, Any] = {"fractions": fractions, "noise": noise, "seed": batch.seed, "scores": batch.scores}
    strongest, weakest = (
        functional.road_curve(batch.forward, batch.images, maps, batch.targets, accuracy=False, **options).mean(1)
        for maps in (explanation.maps, -explanation.maps)
    )
    return functional.arcc(weakest - strongest, _coherency(explanation), functional.map_complexity(explanation.maps))


def _faithfulness(name: str, title: str, higher: bool, source: str, forwards: int, *rest: Any, **more: Any) -> Metric:
    return Metric(name, title, "faithfulness", higher, source, forwards, *rest, **{"reads": "probability", **more})


_BLUR = {"perturb_baseline": "blur"}
_STEPS = {"steps": 16, **_BLUR}
_TENTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
_corrected = partial(_faithfulness, origin="corrected")

ROWS = (
    _faithfulness(
        "deletion", "Deletion", False, "petsiuk2018rise", 16, partial(_curve, "deletion_curve"), _STEPS, default=True
    ),
    _faithfulness(
        "insertion", "Insertion", True, "petsiuk2018rise", 16, partial(_curve, "insertion_curve"), _STEPS, default=True
    ),
    _corrected(
        "faithfulness_correlation",
        "Faithfulness correlation",
        True,
        "bhatt2020evaluating",
        200,
        partial(_by_random_sums, "faithfulness_correlation"),
        {"subset_size": 16, "runs": 200, **_BLUR},
        default=True,
        reads="logit",
    ),
    _corrected(
        "sensitivity_n",
        "Sensitivity-n",
        True,
        "ancona2018towards",
        200,
        partial(_by_random_sums, "sensitivity_n"),
        {"sizes": [1, 4, 16, 48], "runs": 50, **_BLUR},
        reads="logit",
    ),
    _corrected(
        "infidelity",
        "Infidelity",
        False,
        "yeh2019infidelity",
        138,
        partial(_by_sums, "infidelity"),
        {"sides": [1, 2, 4], "scaled": True, **_BLUR},
        reads="logit",
    ),
    _corrected("monotonicity", "Monotonicity", True, "arya2019explanation", 16, partial(by_order, "monotonicity"), _STEPS),
    _corrected(
        "monotonicity_correlation",
        "Monotonicity correlation",
        True,
        "nguyen2020quantitative",
        64,
        partial(_by_sums, "monotonicity_correlation"),
        _BLUR,
        reads="logit",
    ),
    _corrected("road", "ROAD", False, "rong2022road", 9, _road, {"fractions": _TENTHS, "noise": 0.01}, reads="prediction"),
    _corrected("irof", "IROF", True, "rieger2020irof", 17, _irof, {"steps": 16, "perturb_baseline": "mean"}),
    _faithfulness("average_drop", "Average drop", False, "chattopadhay2018gradcampp", 1, _average_drop),
    _faithfulness(
        "increase_in_confidence", "Increase in confidence", True, "chattopadhay2018gradcampp", 1, _increase_in_confidence
    ),
    _faithfulness("coherency", "Coherency", True, "poppi2021adcc", 0, _coherency, attributions=1, reads="map"),
    _faithfulness("adcc", "ADCC", True, "poppi2021adcc", 1, _adcc, attributions=1),
    _faithfulness(
        "arcc",
        "ARCC",
        True,
        "domeniconi2026refine",
        8,
        _arcc,
        {"fractions": [0.2, 0.4, 0.6, 0.8], "noise": 0.01},
        attributions=1,
    ),
    _faithfulness(
        "region_perturbation",
        "Region perturbation",
        # Quantus declares lower as better, but with the strongest patches first a good map causes a large drop.
        True,
        "samek2017evaluating",
        32,
        partial(by_order, "region_perturbation"),
        {"regions_evaluation": 32, **_BLUR},
        default=True,
    ),
    _faithfulness(
        "faithfulness_estimate",
        "Faithfulness estimate",
        True,
        "alvarez2018towards",
        64,
        partial(_by_sums, "faithfulness_estimate"),
        _BLUR,
        reads="logit",
    ),
    _faithfulness(
        "single_deletion",
        "Single deletion",
        True,
        "hesse2024idsds",
        16,
        _single_deletion,
        {"cells": 4, "perturb_baseline": "zero"},
        reads="logit",
        note="In-domain only for a model that was fine-tuned with single cells set to 0.",
    ),
    _faithfulness("pixel_flipping", "Pixel flipping", False, "bach2015pixelwise", 64, _pixel_flipping, _BLUR),
    _faithfulness("selectivity", "Selectivity", False, "montavon2018methods", 16, _selectivity, {"patch_size": 2, **_BLUR}),
)
