"""Drop, increase, coherency, complexity and ADCC against their literal versions, and at the edges."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captum_softcam.metrics.functional import (
    adcc,
    adcc_of_means,
    average_drop,
    coherency,
    confidence,
    increase_in_confidence,
    map_complexity,
    masked_confidence,
    masked_images,
)

shares = st.lists(st.floats(0, 1), min_size=3, max_size=3)


def _doubles(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(11,), (4, 5), (2, 3, 4)])
def test_drop_and_increase(model, targets, shape):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 2, *shape, dtype=torch.float64, generator=generator)
    maps = torch.randn(4, 1, *shape, dtype=torch.float64, generator=generator)
    pairs = []
    for image, m, target in zip(images, maps, targets.tolist(), strict=True):
        masked = oracles.masked_image(image, m[0])
        pairs.append((oracles.probability(model, image, target), oracles.probability(model, masked, target)))
    whole, masked = confidence(model, images, targets), masked_confidence(model, images, maps, targets)
    torch.testing.assert_close(torch.stack([whole, masked], 1), _doubles(pairs))
    torch.testing.assert_close(average_drop(whole, masked), _doubles([oracles.average_drop(*pair) for pair in pairs]))
    rises = [float(after > before) for before, after in pairs]
    assert increase_in_confidence(whole, masked).tolist() == rises
    assert 0 < sum(rises) < 4, "the test needs both"


def test_masked_images(images, maps):
    want = torch.stack([oracles.masked_image(image, m[0]) for image, m in zip(images, maps, strict=True)])
    torch.testing.assert_close(masked_images(images, maps), want)
    torch.testing.assert_close(masked_images(images, 7 * maps), want, msg="S outside [0, 1] is scaled")
    assert masked_images(images.float(), maps).dtype == torch.float32, "the model takes images of its own type"
    maps[0], maps[1, 0, 0, 0], maps[2], maps[3] = 3.0, math.nan, 1 + 1e-9 * maps[2], -maps[3].abs()
    assert masked_images(images, maps).eq(0).all(), "nothing is left where the map ranks nothing"


def test_confidence_needs_no_gradients(model, images, targets):
    assert not confidence(model, images.requires_grad_(), targets).requires_grad


def test_coherency_and_complexity(maps):
    others = maps.flip(2) + 0.5 * maps + 3
    pairs = [(m.flatten().tolist(), o.flatten().tolist()) for m, o in zip(maps, others, strict=True)]
    torch.testing.assert_close(coherency(maps, others), _doubles([oracles.coherency(*pair) for pair in pairs]))
    for each in (maps, others):
        rows = [oracles.shown_shares(m.flatten().tolist()) for m in each]
        torch.testing.assert_close(map_complexity(each), _doubles([sum(row) / len(row) for row in rows]))


def test_coherency_runs_from_opposite_to_same():
    maps = torch.tensor([[1.0, 2.0, 3.0], [0.1, 0.2, 0.7]]).view(2, 1, 3)
    torch.testing.assert_close(coherency(maps, 5 * maps), torch.ones(2))
    torch.testing.assert_close(coherency(maps, 4 - maps), torch.zeros(2))
    other = torch.tensor([[3.0, 5.0, 1.0], [0.1, 0.7, 0.7]]).view(2, 1, 3)
    torch.testing.assert_close(coherency(maps, other), coherency(other, maps))


def test_coherency_stays_in_range_when_rounded():
    noisy = torch.rand(1000, 1, 7, generator=torch.Generator().manual_seed(0))
    scores = coherency(noisy, 0.3 * noisy)
    assert (scores <= 1).all()
    assert (coherency(noisy, 1.1 - 0.3 * noisy) >= 0).all()


def test_either_map_may_be_the_one_that_ranks_nothing(maps):
    for flat in (torch.ones_like(maps), 1 + 1e-9 * maps.flip(2)):
        assert coherency(maps, flat).isnan().all()
        assert coherency(flat, maps).isnan().all()


def test_the_least_complex_map_marks_one_position():
    assert map_complexity(torch.eye(8).view(1, 1, 64)[..., :10]).item() == pytest.approx(0.2)
    assert map_complexity(torch.tensor([[[-1.0, 0.0, 9.0, -3.0]]])).item() == 0.25


@given(drop=shares, coherence=shares, complexity=shares)
def test_adcc(drop, coherence, complexity):
    parts = _doubles(drop), _doubles(coherence), _doubles(complexity)
    got = adcc(*parts)
    want = [oracles.adcc(*row) for row in zip(drop, coherence, complexity, strict=True)]
    torch.testing.assert_close(got, _doubles(want))
    means = oracles.adcc(sum(drop) / 3, sum(coherence) / 3, sum(complexity) / 3)
    assert adcc_of_means(*parts).item() == pytest.approx(means, abs=1e-9)
    assert adcc_of_means(*parts) >= got.mean() - 1e-9, "the harmonic mean is concave"


def test_a_part_at_its_worst_makes_adcc_zero():
    half, worst = torch.tensor([0.5]), torch.tensor([1.0])
    assert adcc(worst, half, half).item() == 0
    assert adcc(half, 1 - worst, half).item() == 0
    assert adcc(half, half, worst).item() == 0
    assert adcc(1 - worst, worst, 1 - worst).item() == 1


def test_missing_values_stay_missing():
    nan = math.nan
    whole, masked = torch.tensor([0.5, nan, 0.5, 0.0, 0.0]), torch.tensor([nan, 0.5, 0.25, 0.0, 0.5])
    assert average_drop(whole, masked).isnan().tolist() == [True, True, False, True, True]
    assert increase_in_confidence(whole, masked).isnan().tolist() == [True, True, False, False, False]
    assert increase_in_confidence(whole, masked)[2:].tolist() == [0, 0, 1]
    drops, rest = torch.tensor([0.2, nan, 0.4]), torch.tensor([0.5, 0.9, 0.5])
    assert adcc(drops, rest, rest).isnan().tolist() == [False, True, False]
    want = oracles.adcc(0.3, 0.5, 0.5)
    assert adcc_of_means(drops, rest, rest).item() == pytest.approx(want), "the second sample is in no mean"
    assert adcc_of_means(rest * nan, rest, rest).isnan()


def test_refusals(model, images, maps, targets):
    half = torch.full((4,), 0.5)
    with pytest.raises(ValueError, match=r"drops must be fractions in \[0, 1\], not percentages; got 15.69"):
        adcc(half * 31.38, half, half)
    with pytest.raises(ValueError, match=r"masked_confidences must be fractions in \[0, 1\]"):
        average_drop(half, -half)
    with pytest.raises(ValueError, match=r"expected \(N,\), one value per sample; got .* masked_confidences \(4, 1\)"):
        increase_in_confidence(half, half[:, None])
    with pytest.raises(ValueError, match=r"expected \(N,\).* coherencies \(3,\)"):
        adcc_of_means(half, half[1:], half)
    with pytest.raises(ValueError, match="expected one shape"):
        coherency(maps, maps[..., 1:])
    with pytest.raises(ValueError, match=r"expected \(N, C, ...\) and \(N, 1, ...\) of one size"):
        masked_confidence(model, images, maps[1:], targets)
    with pytest.raises(ValueError, match="one map per sample"):
        map_complexity(images)
