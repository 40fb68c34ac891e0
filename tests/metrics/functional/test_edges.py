"""What the package says of flat, broken and negative maps, empty and full masks: for every function alike."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from captum_softcam.metrics import functional as scores

NAN, SOME = math.nan, "a number"
HELPERS = {  # no scores of maps: what makes their input, and what is made of them
    "adcc_of_means",
    "area_under_curve",
    "black_baseline",
    "blur_baseline",
    "boxes_to_masks",
    "confidence",
    "masked_images",
    "mean_baseline",
    "noisy_linear_imputation",
    "step_fractions",
    "superpixels",
}


SHAPED = {  # patches are cut, maps mirrored and holes filled along sides
    "adcc",
    "coherency",
    "deletion_curve",
    "infidelity",
    "insertion_curve",
    "monotonicity_correlation",
    "road_curve",
    "top_k_localisation_precision",
}
VALUED = {"adcc", "average_drop", "increase_in_confidence", "irof", "road_curve"}  # they look at values before they are done


def _model(images: Tensor) -> Tensor:
    flat = images.flatten(1).double()
    weights = torch.linspace(-1, 1, flat.shape[1], device=flat.device, dtype=flat.dtype)
    return torch.stack([flat @ weights, flat @ weights.flip(0)], 1)


def _images(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N, 2, ...) and targets for maps: the same for every sample, wherever it stands in the batch."""
    image = torch.linspace(0, 1, 2 * maps[0].numel(), device=maps.device).view(1, 2, *maps.shape[2:])
    return image.expand(len(maps), *image.shape[1:]), torch.zeros(len(maps), dtype=torch.long, device=maps.device)


def _confidences(maps: Tensor) -> tuple[Tensor, Tensor]:
    images, targets = _images(maps)
    return scores.confidence(_model, images, targets), scores.masked_confidence(_model, images, maps, targets)


def _adcc(maps: Tensor, _masks: Tensor) -> Tensor:
    drops = scores.average_drop(*_confidences(maps))
    return scores.adcc(drops, scores.coherency(maps, maps.flip(2)), scores.map_complexity(maps))


def _curve(name: str):
    def area(maps: Tensor, _masks: Tensor) -> Tensor:
        images, targets = _images(maps)
        curve = getattr(scores, name)(_model, images, maps, targets, torch.zeros((), device=maps.device), patches=2, steps=4)
        return scores.area_under_curve(curve)

    return area


def _game(name: str, **settings):
    def score(maps: Tensor, _masks: Tensor) -> Tensor:
        images, targets = _images(maps)
        return getattr(scores, name)(_model, images, maps, targets, torch.zeros((), device=maps.device), **settings)

    return score


def _road(maps: Tensor, _masks: Tensor) -> Tensor:
    images, targets = _images(maps)
    return scores.road_curve(_model, images, maps, targets, shares=[0.2, 0.6], accuracy=False).mean(1)


def _irof(maps: Tensor, _masks: Tensor) -> Tensor:
    images, targets = _images(maps)
    segments = (torch.arange(maps[0].numel(), device=maps.device) // 7).view(maps[:1].shape).expand_as(maps)
    return scores.irof(_model, images, maps, targets, torch.zeros((), device=maps.device), segments, steps=3)


# name: (score of maps and masks, of a map of negative values, with an empty mask, with a full one)
TABLE = {
    "activation_precision": (scores.activation_precision, NAN, NAN, 1.0),
    "activation_sensitivity": (scores.activation_sensitivity, 0.0, NAN, SOME),
    "adcc": (_adcc, NAN, SOME, SOME),
    "average_drop": (lambda maps, _: scores.average_drop(*_confidences(maps)), NAN, SOME, SOME),
    "coherency": (lambda maps, _: scores.coherency(maps, maps.flip(2)), NAN, SOME, SOME),
    "deletion_curve": (_curve("deletion_curve"), SOME, SOME, SOME),
    "energy_based_pointing_game": (scores.energy_based_pointing_game, NAN, NAN, 1.0),
    "faithfulness_correlation": (_game("faithfulness_correlation", patches=None, subset_size=10, runs=5), SOME, SOME, SOME),
    "increase_in_confidence": (lambda maps, _: scores.increase_in_confidence(*_confidences(maps)), NAN, SOME, SOME),
    "infidelity": (_game("infidelity", patches=2, sides=(1, 2)), SOME, SOME, SOME),
    "insertion_curve": (_curve("insertion_curve"), SOME, SOME, SOME),
    "iou_at_best_threshold": (scores.iou_at_best_threshold, SOME, NAN, 1.0),
    "irof": (_irof, SOME, SOME, SOME),
    "map_complexity": (lambda maps, _: scores.map_complexity(maps), NAN, SOME, SOME),
    "masked_confidence": (lambda maps, _: _confidences(maps)[1], NAN, SOME, SOME),
    "monotonicity": (_game("monotonicity", patches=None, steps=4), SOME, SOME, SOME),
    "monotonicity_correlation": (_game("monotonicity_correlation", patches=2), SOME, SOME, SOME),
    "pixel_auc": (scores.pixel_auc, SOME, NAN, NAN),
    "pointing_game": (scores.pointing_game, SOME, NAN, 1.0),
    "relevance_mass_accuracy": (scores.relevance_mass_accuracy, NAN, NAN, 1.0),
    "relevance_rank_accuracy": (scores.relevance_rank_accuracy, SOME, NAN, 1.0),
    "road_curve": (_road, SOME, SOME, SOME),
    "sensitivity_n": (_game("sensitivity_n", patches=None, sizes=(3, 10), runs=5), SOME, SOME, SOME),
    "sparseness": (lambda maps, _: scores.sparseness(maps), SOME, SOME, SOME),
    "top_k_intersection": (scores.top_k_intersection, SOME, NAN, 1.0),
    "top_k_localisation_precision": (
        lambda maps, masks: scores.top_k_localisation_precision(maps, masks, k=2, patches=2),
        SOME,
        NAN,
        1.0,
    ),
}


def _scenes(shape: tuple[int, ...] = (5, 6)) -> tuple[Tensor, Tensor]:
    """Nine samples, one for each edge; the last one is ordinary."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(9, 1, *shape, generator=generator) - 0.4
    masks = torch.rand(maps.shape, generator=generator) < 0.4
    maps[0], maps[1], maps[2] = 0.0, 3.0, -3.0
    maps[3].view(-1)[4], maps[4].view(-1)[4] = math.nan, math.inf
    maps[5] = -maps[5].abs() - 0.1
    masks[6], masks[7] = False, True
    return maps, masks


def test_every_score_is_in_the_table():
    assert set(TABLE) | HELPERS == set(scores.__all__)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("shape", [(30,), (5, 6), (2, 3, 5)])
def test_edges(name, shape):
    score, negative, empty, full = TABLE[name]
    got = score(*_scenes(shape)).tolist()
    want = [NAN] * 5 + [negative, empty, full, SOME]
    for case, (value, wanted) in enumerate(zip(got, want, strict=True)):
        if wanted is SOME:
            assert math.isfinite(value), case
        else:
            assert value == pytest.approx(wanted, nan_ok=True), case


@pytest.mark.parametrize("name", TABLE)
def test_a_sample_is_scored_as_if_alone(name):
    maps, masks = _scenes()
    alone = [TABLE[name][0](maps[i : i + 1], masks[i : i + 1]) for i in range(len(maps))]
    torch.testing.assert_close(TABLE[name][0](maps, masks), torch.cat(alone), equal_nan=True)


@pytest.mark.parametrize("name", TABLE)
def test_the_shape_does_not_matter_where_no_patch_or_distance_does(name):
    if name in SHAPED:
        return
    maps, masks = _scenes((2, 3, 5))
    flat = TABLE[name][0](maps.view(9, 1, -1), masks.view(9, 1, -1))
    torch.testing.assert_close(TABLE[name][0](maps, masks), flat, equal_nan=True)


@pytest.mark.parametrize("name", TABLE)
def test_arguments_are_left_as_they_are(name):
    maps, masks = _scenes()
    before = maps.clone(), masks.clone()
    TABLE[name][0](maps, masks)
    torch.testing.assert_close((maps, masks), before, equal_nan=True)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_narrow_and_whole_numbers(name, dtype):
    maps, masks = _scenes((60, 60))
    maps, masks = (100 * maps[5:]).to(dtype), masks[5:]  # their sum is beyond float16
    torch.testing.assert_close(TABLE[name][0](maps, masks), TABLE[name][0](maps.float(), masks), equal_nan=True)


@pytest.mark.parametrize("name", sorted(set(TABLE) - VALUED))
def test_nothing_is_made_on_another_device(name):
    """The meta device computes no values, but refuses to meet a tensor of the CPU; checks of values cannot run on it."""
    maps, masks = _scenes()
    got = TABLE[name][0](maps.to("meta"), masks.to("meta"))
    assert got.device.type == "meta"
    assert got.shape == (9,)


def test_baselines_and_boxes_stay_on_the_device():
    images = torch.rand(2, 3, 8, 9, device="meta")
    for made in (scores.black_baseline(images), scores.mean_baseline(images), scores.blur_baseline(images)):
        assert made.device.type == "meta"
        assert made.shape == images.shape
    assert scores.boxes_to_masks(torch.zeros(2, 4, device="meta"), (8, 9)).device.type == "meta"
