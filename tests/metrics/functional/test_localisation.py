"""Scores of maps against masks: their literal versions, and what must hold for every map."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captum_softcam.metrics.functional import (
    activation_precision,
    activation_sensitivity,
    energy_based_pointing_game,
    iou_at_best_threshold,
    pixel_auc,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    top_k_intersection,
    top_k_localisation_precision,
)

LITERAL = {
    activation_precision: lambda m, k: oracles.activation_scores([m], [k])[0],
    activation_sensitivity: lambda m, k: oracles.activation_scores([m], [k])[1],
    energy_based_pointing_game: oracles.relevance_mass,
    iou_at_best_threshold: oracles.best_iou,
    pixel_auc: oracles.localisation_auc,
    pointing_game: lambda m, k: oracles.top_share(m, k, 1),
    relevance_mass_accuracy: oracles.relevance_mass,
    relevance_rank_accuracy: lambda m, k: oracles.top_share(m, k, sum(k)),
    top_k_intersection: lambda m, k: oracles.top_share(m, k, max(1, math.floor(sum(k) / 2 + 0.5))),
}
BY_ORDER = (iou_at_best_threshold, pixel_auc, pointing_game, relevance_rank_accuracy, top_k_intersection)
BY_WEIGHT = (activation_precision, activation_sensitivity, energy_based_pointing_game, relevance_mass_accuracy)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """A map with ties, positive evidence and no flat one, and a mask that is neither empty nor full."""
    size = draw(st.integers(3, 9))
    values = draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size).filter(lambda v: max(v) > max(0, min(v))))
    mask = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda m: 0 < sum(m) < len(m)))
    return torch.tensor(values, dtype=torch.float64).view(1, 1, -1), torch.tensor(mask).view(1, 1, -1)


@pytest.mark.parametrize("score", LITERAL)
@pytest.mark.parametrize("which", ["maps", "tied"])
def test_equals_the_oracle(score, which, masks, request):
    maps = request.getfixturevalue(which)
    want = [LITERAL[score](m.flatten().tolist(), k.flatten().tolist()) for m, k in zip(maps, masks, strict=True)]
    torch.testing.assert_close(score(maps, masks), torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("score", LITERAL)
@given(scene=scenes())
def test_equals_the_oracle_on_small_maps(score, scene):
    want = LITERAL[score](*(each.flatten().tolist() for each in scene))
    assert score(*scene).item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("tolerance", [0, 0.9, 1, 1.5, 2, 3, 20])
@pytest.mark.parametrize("shape", [(40,), (7, 9), (4, 5, 6)])
def test_pointing_with_tolerance(shape, tolerance):
    generator = torch.Generator().manual_seed(3)
    maps = (2 * torch.randn(20, 1, *shape, generator=generator)).round()
    masks = torch.rand(maps.shape, generator=generator) < 0.03
    masks[:, 0].view(20, -1)[:, 17] = True
    want = [oracles.pointing(m[0], k[0], tolerance) for m, k in zip(maps, masks, strict=True)]
    torch.testing.assert_close(pointing_game(maps, masks, tolerance=tolerance), torch.tensor(want))
    assert len(set(want)) > 1 or tolerance == 20, "the test needs hits and misses"


@pytest.mark.parametrize("k", [0.01, 0.3, 1, 2, 100])
def test_top_k_grows_with_the_mask(k, tied, masks):
    sizes = masks.flatten(1).sum(1).tolist()
    counts = [min(max(math.floor(k * size + 0.5), 1), 63) for size in sizes]
    want = [
        oracles.top_share(m.flatten().tolist(), s.flatten().tolist(), count)
        for m, s, count in zip(tied, masks, counts, strict=True)
    ]
    torch.testing.assert_close(top_k_intersection(tied, masks, k=k), torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize(("patches", "k"), [(3, 1), (3, 4), (4, 9), (7, 20)])
def test_patches_that_touch_the_mask(patches, k, maps, tied, masks):
    masks = masks & (torch.rand(masks.shape, generator=torch.Generator().manual_seed(4)) < 0.3)
    for each in (maps, tied):
        want = [oracles.patch_top_share(m[0].tolist(), s[0].tolist(), patches, k) for m, s in zip(each, masks, strict=True)]
        got = top_k_localisation_precision(each, masks, k=k, patches=patches)
        torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


def test_patches_of_one_position_each(tied, masks):
    want = [oracles.top_share(m.flatten().tolist(), s.flatten().tolist(), 5) for m, s in zip(tied, masks, strict=True)]
    got = top_k_localisation_precision(tied, masks, k=5, patches=None)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


def test_a_map_that_is_the_mask_has_the_best_scores(masks):
    for score in LITERAL:
        assert score(masks.double(), masks).tolist() == [1.0] * 4
    assert top_k_localisation_precision(masks.double(), masks, k=1, patches=7).tolist() == [1.0] * 4


def test_of_equal_points_one_would_be_drawn():
    maps, masks = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    maps[0, 0, 0, :] = 1
    masks[0, 0, 0, 0] = True
    assert pointing_game(maps, masks).item() == 0.5


def test_negative_evidence_is_none(maps, masks):
    lifted = torch.where(maps > 0, maps, maps * 100)
    for score in BY_WEIGHT:
        torch.testing.assert_close(score(lifted, masks), score(maps, masks))


@pytest.mark.parametrize("score", LITERAL)
@given(scene=scenes(), power=st.integers(-20, 20), data=st.data())
def test_scale_and_place_do_not_matter(score, scene, power, data):
    maps, masks = scene
    torch.testing.assert_close(score(maps * 2.0**power, masks), score(maps, masks))
    order = data.draw(st.permutations(range(maps.shape[2])))
    torch.testing.assert_close(score(maps[..., order], masks[..., order]), score(maps, masks))


@pytest.mark.parametrize("score", BY_ORDER)
@given(scene=scenes())
def test_the_order_alone_matters(score, scene):
    maps, masks = scene
    torch.testing.assert_close(score(maps.exp() - 50, masks), score(maps, masks))


@given(scene=scenes())
def test_a_mask_and_its_complement(scene):
    maps, masks = scene
    one = torch.ones(1, dtype=torch.float64)
    for score in (pixel_auc, relevance_mass_accuracy, activation_precision, pointing_game):
        torch.testing.assert_close(score(maps, masks) + score(maps, ~masks), one)
    torch.testing.assert_close(pixel_auc(-maps, masks) + pixel_auc(maps, masks), one)
    assert iou_at_best_threshold(maps, masks) >= masks.double().mean()


@given(scene=scenes(), tolerance=st.floats(0, 12))
def test_tolerance_only_helps(scene, tolerance):
    assert pointing_game(*scene, tolerance=tolerance) >= pointing_game(*scene)
    assert pointing_game(*scene, tolerance=9).item() == 1.0, "no position is farther away"


def test_refusals(maps, masks):
    with pytest.raises(ValueError, match=r"maps are \(4, 2, 7, 9\); expected \(N, 1, ...\)"):
        pixel_auc(maps.expand(4, 2, 7, 9), masks)
    with pytest.raises(ValueError, match=r"masks are \(4, 7, 9\) and maps \(4, 1, 7, 9\)"):
        relevance_mass_accuracy(maps, masks[:, 0])
    with pytest.raises(TypeError, match=r"masks are torch.uint8; expected torch.bool"):
        pointing_game(maps, masks.byte())
    with pytest.raises(ValueError, match=r"tolerance must be >= 0; got -1"):
        pointing_game(maps, masks, tolerance=-1)
    with pytest.raises(ValueError, match="k must be > 0"):
        top_k_intersection(maps, masks, k=0)
    with pytest.raises(ValueError, match="from 1 to the number of patches, 9; got 10"):
        top_k_localisation_precision(maps, masks, k=10, patches=3)
