"""Similarity with maps of randomised networks and of other classes."""

from __future__ import annotations

import math

import oracles
import pytest
import torch

from captum_softcam.metrics.functional import mprt, mprt_ssim, random_logit, structural_similarity
from captum_softcam.metrics.functional.randomisation import other_classes


def _of_skimage(one: torch.Tensor, other: torch.Tensor) -> float:
    from skimage.metrics import structural_similarity as of_skimage

    scaled = [((each - each.min()) / (each.max() - each.min())).numpy() for each in (one, other)]
    return of_skimage(*scaled, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


def _smooth(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    noise = torch.randn(2, 1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return noise.cumsum(-1) / 4


def test_mprt_is_the_mean_of_rank_correlations(tied, maps):
    others = [maps.flip(2), (3 * maps).round() + tied, maps - 5]
    for scores, stages in ((mprt(tied, others), others), (random_logit(tied, others[1]), others[1:2])):
        for row, values in enumerate(tied):
            ranks = [oracles.spearman(values.flatten().tolist(), each[row].flatten().tolist()) for each in stages]
            assert scores[row].item() == pytest.approx(sum(ranks) / len(ranks), abs=1e-12)


def test_ssim_equals_loops_and_skimage():
    maps, others = _smooth((14, 19), 0), _smooth((14, 19), 1)
    found = structural_similarity(maps, others)
    for row in range(2):
        one, other = maps[row, 0], others[row, 0]
        assert found[row].item() == pytest.approx(oracles.structural_similarity(one.tolist(), other.tolist()), abs=1e-10)
        assert found[row].item() == pytest.approx(_of_skimage(one, other), abs=1e-10)
    mean = (found + structural_similarity(maps, maps)) / 2
    torch.testing.assert_close(mprt_ssim(maps, [others, maps]), mean)


def test_ssim_of_volumes_equals_skimage():
    maps, others = _smooth((12, 11, 13), 0), _smooth((12, 11, 13), 1)
    expected = _of_skimage(maps[0, 0], others[0, 0])
    assert structural_similarity(maps, others)[0].item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("shape", [(30,), (20, 30), (5, 4, 3), (1, 2)])
def test_a_map_that_ignores_the_model_scores_one(shape):
    maps = _smooth(shape, 0)
    for scores in (mprt(maps, [3 * maps + 1]), mprt_ssim(maps, [3 * maps + 1]), random_logit(maps, maps)):
        torch.testing.assert_close(scores, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(random_logit(maps, -maps), -torch.ones(2, dtype=torch.float64))
    assert (structural_similarity(maps, -maps) < 0.9).all(), "of signed maps it would be 1"


def test_a_flat_map_of_any_stage_leaves_no_score(maps):
    flat, broken = torch.zeros_like(maps), maps.clone()
    broken[0] = math.nan
    for score in (mprt, mprt_ssim):
        assert score(maps, [maps, flat]).isnan().all()
        assert score(flat, [maps]).isnan().all()
        assert score(maps, [broken, maps]).isnan().tolist() == [True, False, False, False]


def test_other_classes_are_drawn_alike_by_each_sample_for_itself():
    targets, seeds = torch.arange(4).repeat(500), list(range(2000))
    others = other_classes(targets, 4, seeds)
    assert (others != targets).all()
    counts = torch.bincount((others - targets) % 4, minlength=4)
    assert counts[0] == 0
    assert (counts[1:] > 580).all(), "each of three classes is as likely"
    assert torch.equal(other_classes(targets[7:9], 4, seeds[7:9]), others[7:9])
    assert not torch.equal(other_classes(targets, 4, seeds, seed=1), others)
    assert other_classes(torch.tensor([0, 1]), 2, [5, 6]).tolist() == [1, 0]


def test_what_does_not_fit_is_refused(maps):
    with pytest.raises(ValueError, match="there are no maps of randomised networks; expected one stage or more"):
        mprt(maps, [])
    with pytest.raises(ValueError, match=r"maps are \(4, 1, 7, 9\) and \(4, 1, 9, 7\); expected one shape"):
        mprt(maps, [maps.mT])
    with pytest.raises(ValueError, match="there is no other class among 1"):
        other_classes(torch.tensor([0]), 1, [0])
