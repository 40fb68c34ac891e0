"""Correlations and infidelity over sets of patches, against their literal versions and where the answer is known."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from torch import Tensor

from captum_softcam.metrics.functional import (
    faithfulness_correlation,
    faithfulness_estimate,
    infidelity,
    monotonicity_correlation,
    sensitivity_n,
)

SHAPES = [(11,), (7, 9), (4, 3, 5)]


def example(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (3, 2, ...), signed maps, targets and a baseline."""
    generator = torch.Generator().manual_seed(len(shape))
    images = torch.rand(3, 2, *shape, dtype=torch.float64, generator=generator)
    maps = torch.randn(3, 1, *shape, dtype=torch.float64, generator=generator)
    return images, maps, torch.tensor([0, 2, 1]), torch.rand(3, 2, *shape, dtype=torch.float64, generator=generator)


def bent(images: Tensor) -> Tensor:
    """Logits that are no sum of what the positions give."""
    flat = images.flatten(1)
    weights = torch.linspace(-1, 1, flat.shape[1], dtype=flat.dtype)
    return torch.stack([(flat @ weights).sin(), (flat @ weights.flip(0)) ** 2, (flat**2) @ weights], 1)


def drawn(shape: tuple[int, ...], patches: int, **settings) -> list[set[tuple[int, ...]]]:
    """The subsets that are taken of a grid, as a board shows them to the model."""
    seen = []

    def watch(boards: Tensor) -> Tensor:
        seen.append({tuple(place) for place in (boards[0, 0] == 0).nonzero().tolist()})
        return boards.flatten(1)[:, :2]

    board = torch.ones(1, 1, *[patches] * len(shape))
    slope = torch.arange(float(board.numel())).view_as(board)
    faithfulness_correlation(watch, board, slope, torch.tensor([0]), board * 0, patches=None, **settings)
    return seen[1:]


def told(i: int, images, maps, targets, baseline, subsets, patches: int) -> tuple[list[float], list[float]]:
    """Falls and sums of one sample, by loops."""
    rows = [
        oracles.fall_and_sum(bent, images[i], maps[i, 0], int(targets[i]), baseline[i], subset, patches)
        for subset in subsets
    ]
    return [fall for fall, _ in rows], [total for _, total in rows]


@pytest.mark.parametrize("shape", SHAPES)
def test_faithfulness_correlation(shape):
    images, maps, targets, baseline = example(shape)
    settings = {"subset_size": 2, "runs": 9, "seed": 3}
    got = faithfulness_correlation(bent, images, maps, targets, baseline, patches=3, **settings)
    subsets = drawn(shape, 3, **settings)
    want = [oracles.pearson(*told(i, images, maps, targets, baseline, subsets, 3)) for i in range(3)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_sensitivity_n(shape):
    images, maps, targets, baseline = example(shape)
    got = sensitivity_n(bent, images, maps, targets, baseline, patches=3, sizes=[1, 2], runs=7, seed=1)
    for i in range(3):
        each = []
        for n in (1, 2):
            subsets = drawn(shape, 3, subset_size=n, runs=7, seed=1)
            each.append(oracles.pearson(*told(i, images, maps, targets, baseline, subsets, 3)))
        assert got[i].item() == pytest.approx(sum(each) / 2, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity(shape, scaled):
    images, maps, targets, baseline = example(shape)
    got = infidelity(bent, images, maps, targets, baseline, patches=3, sides=[1, 2], scaled=scaled)
    places = [tuple(place) for place in torch.ones([3] * len(shape)).nonzero().tolist()]
    subsets = [{place} for place in places]
    for corner in places:
        square = {place for place in places if all(0 <= p - c < 2 for p, c in zip(place, corner, strict=True))}
        subsets += [square] if len(square) == 2 ** len(shape) else []
    want = [oracles.infidelity(*told(i, images, maps, targets, baseline, subsets, 3), scaled) for i in range(3)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_monotonicity_correlation(shape):
    images, maps, targets, baseline = example(shape)
    maps = (3 * maps).round()  # ties
    got = monotonicity_correlation(bent, images, maps, targets, baseline, patches=3)
    subsets = [{tuple(place)} for place in torch.ones([3] * len(shape)).nonzero().tolist()]
    for i in range(3):
        falls, sums = told(i, images, maps, targets, baseline, subsets, 3)
        want = oracles.spearman([abs(s) for s in sums], [f**2 for f in falls])
        assert got[i].item() == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_faithfulness_estimate(shape):
    images, maps, targets, baseline = example(shape)
    got = faithfulness_estimate(bent, images, maps, targets, baseline, patches=3)
    subsets = [{tuple(place)} for place in torch.ones([3] * len(shape)).nonzero().tolist()]
    want = [oracles.pearson(*told(i, images, maps, targets, baseline, subsets, 3)) for i in range(3)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_linear_model_reads_is_a_perfect_map(shape):
    """Weights times the difference from the baseline: the sum over any subset is what the logit loses."""
    images, _, targets, baseline = example(shape)
    weights = torch.randn(3, *images.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    linear = lambda x: x.flatten(1) @ weights.flatten(1).T  # noqa: E731 - a model
    maps = ((images - baseline) * weights[targets]).sum(1, keepdim=True)
    game = (linear, images, maps, targets, baseline)
    one = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(faithfulness_correlation(*game, patches=3, subset_size=2, runs=9), one)
    torch.testing.assert_close(sensitivity_n(*game, patches=3, sizes=(1, 2), runs=9), one)
    torch.testing.assert_close(faithfulness_estimate(*game, patches=3), one)
    torch.testing.assert_close(monotonicity_correlation(*game, patches=3), one)
    torch.testing.assert_close(infidelity(*game, patches=3, sides=(1, 3), scaled=False), 0 * one)
    other = (linear, images, 7 * maps, targets, baseline)
    torch.testing.assert_close(infidelity(*other, patches=3, sides=(1, 3)), 0 * one)
    assert infidelity(*other, patches=3, sides=(1, 3), scaled=False).gt(1e-3).all()


def test_an_inverted_map_is_not_rescued_by_its_scale(model, images, targets):
    weights = torch.linspace(-0.3, 0.3, images[0].numel(), dtype=torch.float64)
    right = (images.flatten(1) * weights).view_as(images).sum(1, keepdim=True)
    class_0 = torch.zeros_like(targets)
    inverted = infidelity(model, images, -right, class_0, images * 0, patches=7, sides=(1,))
    falls = [
        [oracles.fall_and_sum(model, image, image[0], 0, image * 0, {(a, b)}, 7)[0] ** 2 for a in range(7) for b in range(7)]
        for image in images
    ]
    torch.testing.assert_close(inverted, torch.tensor(falls, dtype=torch.float64).mean(1), msg="as if it said nothing")


def test_subsets_are_drawn_from_the_seed():
    some, more = (drawn((4, 4), 4, subset_size=3, runs=runs, seed=5) for runs in (4, 9))
    assert {len(subset) for subset in more} == {3}
    assert more[:4] == some, "asking for more draws the same first"
    larger = drawn((4, 4), 4, subset_size=7, runs=9, seed=5)
    assert all(small < large for small, large in zip(more, larger, strict=True))
    assert drawn((4, 4), 4, subset_size=3, runs=9, seed=6) != more
    share = sum((0, 0) in subset for subset in drawn((4, 4), 4, subset_size=4, runs=400, seed=0)) / 400
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 400)), "four standard errors"


def test_torchs_random_state_is_left_alone(model, images, maps, targets):
    before = torch.random.get_rng_state()
    faithfulness_correlation(model, images, maps, targets, images * 0, patches=7)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_model_that_never_moves_leaves_the_score_undefined(images, maps, targets):
    constant = lambda x: x.new_ones(len(x), 3) + 1e-9 * x.flatten(1)[:, :3]  # noqa: E731 - a model, and its rounding
    assert faithfulness_correlation(constant, images, maps, targets, images * 0, patches=7).isnan().all()
    for correlation in (faithfulness_estimate, monotonicity_correlation):
        assert correlation(constant, images, maps, targets, images * 0, patches=7).isnan().all()


def test_forwards_and_gradients(model, images, maps, targets):
    calls = []

    def counted(batch):
        calls.append(torch.is_grad_enabled())
        return model(batch)

    game = (counted, images, maps, targets, images * 0)
    faithfulness_correlation(*game, patches=4, subset_size=4, runs=10)
    assert calls == [False] * 11
    calls.clear()
    sensitivity_n(*game, patches=4, sizes=(1, 2, 3), runs=5)
    assert len(calls) == 3 * 6
    calls.clear()
    infidelity(*game, patches=4, sides=(1, 2, 4))
    assert len(calls) == 1 + 16 + 9 + 1
    calls.clear()
    monotonicity_correlation(*game, patches=4)
    assert len(calls) == 17
    calls.clear()
    faithfulness_estimate(*game, patches=4)
    assert len(calls) == 17


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        (faithfulness_correlation, {"subset_size": 9}, "subset_size must be from 1 to 8, fewer than the 9 patches; got 9"),
        (faithfulness_correlation, {"subset_size": 0}, "got 0"),
        (faithfulness_correlation, {"subset_size": 2, "runs": 1}, "runs must be >= 2"),
        (sensitivity_n, {"sizes": []}, "sizes are empty"),
        (infidelity, {"sides": []}, "sides are empty"),
        (infidelity, {"sides": [4]}, "sides must be from 1 to 3, the patches per side; got 4"),
    ],
)
def test_refusals(model, images, maps, targets, function, settings, message):
    with pytest.raises(ValueError, match=message):
        function(model, images, maps, targets, images * 0, patches=3, **settings)


@pytest.mark.parametrize(
    "function", [faithfulness_correlation, faithfulness_estimate, sensitivity_n, infidelity, monotonicity_correlation]
)
def test_what_does_not_fit_is_refused(model, images, maps, targets, function):
    with pytest.raises(ValueError, match=r"images are \(4, 2, 7, 9\) and maps \(4, 1, 7, 8\)"):
        function(model, images, maps[..., 1:], targets, images * 0, patches=7)
    with pytest.raises(ValueError, match=r"gives \(4, 2, 7, 9\) for 4 images; expected logits"):
        function(lambda x: x, images, maps, targets, images * 0, patches=7)
    with pytest.raises(ValueError, match="a side of 7 positions cannot be cut into 8 patches"):
        function(model, images, maps, targets, images * 0, patches=8)


def test_infidelity_of_a_map_that_cancels_in_every_patch_is_that_of_an_empty_one():
    images, _, targets, baseline = example((4, 4))
    cancelling = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(3, 1, 4, 2)
    got = infidelity(bent, images, cancelling, targets, baseline, patches=2, sides=[1])
    subsets = [{tuple(place)} for place in torch.ones(2, 2).nonzero().tolist()]
    falls = [told(i, images, cancelling, targets, baseline, subsets, 2)[0] for i in range(3)]
    torch.testing.assert_close(got, torch.tensor(falls, dtype=torch.float64).square().mean(1))
