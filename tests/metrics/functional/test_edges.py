"""What the package says of flat, broken and negative maps, empty and full masks: for every function alike."""

from __future__ import annotations

import math

import pytest
import torch
from metric_calls import call, parameters
from torch import Tensor

from captum_softcam.metrics import functional as scores

NAN, SOME = math.nan, "a number"
HELPERS = {  # no scores of maps: what makes their input, and what is made of them
    "adcc_of_means",
    "area_under_curve",
    "as_scores",
    "as_baseline",
    "black_baseline",
    "blur_baseline",
    "boxes_to_masks",
    "confidence",
    "masked_images",
    "linear_imputation",
    "mean_baseline",
    "mosaics",
    "noisy_images",
    "noisy_linear_imputation",
    "shift_offsets",
    "step_fractions",
    "superpixels",
    "uniform_baseline",
    "translated_images",
}


SCORES = sorted(set(scores.__all__) - HELPERS)
VALUED = {
    "adcc",
    "arcc",
    "average_drop",
    "increase_in_confidence",
    "irof",
    "road_curve",
}  # they look at values before they are done
SHAPED = {  # maps are mirrored, squares and windows cut and holes filled along sides
    "adcc",
    "coherency",
    "continuity",
    "flip_symmetry",
    "grid_pointing_game",
    "infidelity",
    "mprt",
    "mprt_ssim",
    "random_logit",
    "road_curve",
    "structural_similarity",
}

# What differs from the rule: a map of negative values has a score like any other, an empty mask gives NaN, a full one 1.
WEIGH_EVIDENCE = {
    "activation_precision",
    "adcc",
    "arcc",
    "average_drop",
    "coherency",
    "energy_based_pointing_game",
    "grid_pointing_game",
    "increase_in_confidence",
    "map_complexity",
    "masked_confidence",
    "relevance_mass_accuracy",
}
NEGATIVE = {**dict.fromkeys(WEIGH_EVIDENCE, NAN), "activation_sensitivity": 0.0}
FULL = {"activation_sensitivity": SOME, "pixel_auc": NAN}


def _model(images: Tensor) -> Tensor:
    flat = images.flatten(1).double()
    weights = torch.linspace(-1, 1, flat.shape[1], device=flat.device, dtype=flat.dtype)
    return torch.stack([flat @ weights, flat @ weights.flip(0)], 1)


def _score(name: str, maps: Tensor, masks: Tensor, **settings) -> Tensor:
    """Scores of maps of the same image (2, ...), whatever the place in the batch."""
    image = torch.linspace(0, 1, 2 * maps[0].numel(), device=maps.device).view(1, 2, *maps.shape[2:])
    targets = torch.zeros(len(maps), dtype=torch.long, device=maps.device)
    return call(name, _model, image.expand(len(maps), *image.shape[1:]), maps, targets, masks, **settings)


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


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("shape", [(30,), (5, 6), (2, 3, 5)])
def test_edges(name, shape):
    got = _score(name, *_scenes(shape)).tolist()
    empty, full = (NAN, FULL.get(name, 1.0)) if "masks" in parameters(name) else (SOME, SOME)
    want = [NAN] * 5 + [NEGATIVE.get(name, SOME), empty, full, SOME]
    for case, (value, wanted) in enumerate(zip(got, want, strict=True)):
        if wanted is SOME:
            assert math.isfinite(value), case
        else:
            assert value == pytest.approx(wanted, nan_ok=True), case


@pytest.mark.parametrize("name", SCORES)
def test_a_sample_is_scored_as_if_alone(name):
    maps, masks = _scenes()
    alone = [_score(name, maps[i : i + 1], masks[i : i + 1]) for i in range(len(maps))]
    torch.testing.assert_close(_score(name, maps, masks), torch.cat(alone), equal_nan=True)


@pytest.mark.parametrize("name", SCORES)
def test_the_shape_does_not_matter_where_no_patch_or_distance_does(name):
    if name in SHAPED:
        return
    maps, masks = _scenes((2, 3, 5))
    flat = _score(name, maps.view(9, 1, -1), masks.view(9, 1, -1), patches=None)
    torch.testing.assert_close(_score(name, maps, masks, patches=None), flat, equal_nan=True)


@pytest.mark.parametrize("name", SCORES)
def test_arguments_are_left_as_they_are(name):
    maps, masks = _scenes()
    before = maps.clone(), masks.clone()
    _score(name, maps, masks)
    torch.testing.assert_close((maps, masks), before, equal_nan=True)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_narrow_and_whole_numbers(name, dtype):
    maps, masks = _scenes((60, 60))
    maps, masks = (100 * maps[5:]).to(dtype), masks[5:]  # their sum is beyond float16
    torch.testing.assert_close(_score(name, maps, masks), _score(name, maps.float(), masks), equal_nan=True)


@pytest.mark.parametrize("name", sorted(set(SCORES) - VALUED))
def test_nothing_is_made_on_another_device(name):
    """The meta device computes no values, but refuses to meet a tensor of the CPU; checks of values cannot run on it."""
    maps, masks = _scenes()
    got = _score(name, maps.to("meta"), masks.to("meta"))
    assert got.device.type == "meta"
    assert got.shape == (9,)


def test_baselines_and_boxes_stay_on_the_device():
    images = torch.rand(2, 3, 8, 9, device="meta")
    for made in (scores.black_baseline(images), scores.mean_baseline(images), scores.blur_baseline(images)):
        assert made.device.type == "meta"
        assert made.shape == images.shape
    assert scores.boxes_to_masks(torch.zeros(2, 4, device="meta"), (8, 9)).device.type == "meta"
