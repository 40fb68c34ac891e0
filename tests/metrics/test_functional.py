"""Scores of maps against their literal versions, and at the edges."""

from __future__ import annotations

import math

import oracles
import pytest
import torch

from captum_softcam.metrics.functional import (
    activation_precision,
    activation_sensitivity,
    area_under_curve,
    deletion_curve,
    insertion_curve,
    pointing_game,
)

LOCALISATION = (activation_precision, activation_sensitivity, pointing_game)


def _classifier(images: torch.Tensor) -> torch.Tensor:
    """Three classes, each fond of another corner; probabilities stay away from 0 and 1, where all curves are alike."""
    flat = images.double().flatten(1)
    weights = torch.linspace(-0.3, 0.3, flat.shape[1], dtype=torch.float64)
    return torch.stack([flat @ weights, flat @ weights.flip(0), flat @ weights.square()], 1)


@pytest.fixture
def maps():
    return torch.randn(4, 1, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def masks(maps):
    return torch.rand(maps.shape, generator=torch.Generator().manual_seed(1)) < 0.3


def test_activation_precision_and_sensitivity(maps, masks):
    want = [oracles.activation_scores(m[0].tolist(), k[0].tolist()) for m, k in zip(maps, masks, strict=True)]
    torch.testing.assert_close(activation_precision(maps, masks), torch.tensor([w[0] for w in want], dtype=torch.float64))
    torch.testing.assert_close(activation_sensitivity(maps, masks), torch.tensor([w[1] for w in want], dtype=torch.float64))


def test_a_map_that_is_the_mask_has_the_best_scores(masks):
    for score in LOCALISATION:
        assert score(masks.double(), masks).tolist() == [1.0] * 4


def test_the_highest_point_decides(maps, masks):
    want = [float(k.flatten()[m.flatten().argmax()]) for m, k in zip(maps, masks, strict=True)]
    assert pointing_game(maps, masks).tolist() == want
    assert 0 < sum(want) < 4, "the test needs hits and misses"


def test_of_equal_points_one_would_be_drawn():
    maps, masks = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    maps[0, 0, 0, :] = 1
    masks[0, 0, 0, 0] = True
    assert pointing_game(maps, masks).item() == 0.5


@pytest.mark.parametrize("score", LOCALISATION)
def test_what_ranks_nothing_and_what_there_is_not_to_find(score, maps, masks):
    maps[0], maps[1, 0, 0, 0] = 3.0, math.nan
    masks[2] = False
    assert score(maps, masks).isnan().tolist() == [True, True, True, False]


def test_negative_evidence_is_none(maps, masks):
    assert activation_precision(-maps.abs() - 1, masks).isnan().all()
    lifted = torch.where(maps > 0, maps, maps * 100)
    torch.testing.assert_close(activation_precision(lifted, masks), activation_precision(maps, masks))


@pytest.mark.parametrize("shape", [(11,), (7, 9), (4, 5, 6)])
def test_signals_images_and_volumes(shape):
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.rand(2, 1, *shape, generator=generator), torch.rand(2, 1, *shape, generator=generator) < 0.5
    images = torch.rand(2, 3, *shape, generator=generator)
    for score in LOCALISATION:
        flat = score(maps.reshape(2, 1, -1), masks.reshape(2, 1, -1))
        torch.testing.assert_close(score(maps, masks), flat)
    curve = deletion_curve(_classifier, images, maps, torch.tensor([0, 1]), torch.zeros(()), patches=3, steps=3)
    assert curve.shape == (2, 4)


@pytest.mark.parametrize("inserted", [False, True])
@pytest.mark.parametrize(("patches", "steps"), [(3, 9), (4, 5), (7, 7)])
def test_curves(maps, patches, steps, inserted):
    images = torch.rand(4, 2, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    baseline, targets = images.mean((2, 3), keepdim=True), torch.tensor([0, 1, 2, 0])
    maps[1] = maps[1].round()  # ties
    curve = (insertion_curve if inserted else deletion_curve)(
        _classifier, images, maps, targets, baseline, patches=patches, steps=steps
    )
    for i, target in enumerate(targets.tolist()):
        flat = baseline[i].expand_as(images[i])
        want = oracles.perturbation_curve(
            _classifier, images[i], maps[i, 0].tolist(), target, flat, patches, steps, inserted
        )
        torch.testing.assert_close(curve[i], torch.tensor(want, dtype=torch.float64))


def test_curves_run_from_all_to_nothing(maps):
    images, targets = torch.rand(4, 2, 7, 9), torch.tensor([0, 1, 2, 0])
    whole, nothing = (_classifier(x).softmax(1).gather(1, targets[:, None])[:, 0] for x in (images, images * 0))
    deletion = deletion_curve(_classifier, images, maps, targets, torch.zeros(()), patches=7, steps=7)
    insertion = insertion_curve(_classifier, images, maps, targets, torch.zeros(()), patches=7, steps=7)
    torch.testing.assert_close(deletion[:, [0, -1]], torch.stack([whole, nothing], 1))
    torch.testing.assert_close(insertion[:, [-1, 0]], torch.stack([whole, nothing], 1))
    reverse = deletion_curve(_classifier, images, -maps, targets, torch.zeros(()), patches=7, steps=7)
    torch.testing.assert_close(insertion, reverse.flip(1))  # what goes last comes first


def test_area_is_that_of_trapezoids():
    assert area_under_curve(torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])).tolist() == [0.5, 1.0]


def test_a_map_that_ranks_nothing_has_no_curve(maps):
    maps[2] = 0.0
    curve = deletion_curve(
        _classifier, torch.rand(4, 2, 7, 9), maps, torch.zeros(4, dtype=torch.long), torch.zeros(()), patches=7
    )
    assert curve.isnan().all(1).tolist() == [False, False, True, False]


def test_more_patches_than_positions():
    with pytest.raises(ValueError, match="a side of 7 positions cannot be cut into 8 patches"):
        deletion_curve(
            _classifier, torch.rand(1, 2, 7, 9), torch.rand(1, 1, 7, 9), torch.tensor([0]), torch.zeros(()), patches=8
        )
