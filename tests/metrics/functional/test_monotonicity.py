"""Does the probability rise with every step? Against the literal curve, and where the answer is known."""

from __future__ import annotations

import itertools

import oracles
import pytest
import torch

from captum_softcam.metrics.functional import monotonicity


def test_monotonicity(images, maps, targets):
    weights = torch.linspace(-1, 1, images[0].numel(), dtype=images.dtype)
    model = lambda x: torch.stack([(x.flatten(1) @ (n * weights)).sin() for n in (1, 2, 4)], 1)  # noqa: E731
    baseline = images.flip(2)
    got = monotonicity(model, images, maps, targets, baseline, patches=5, steps=20)
    for i, target in enumerate(targets.tolist()):
        weakest_first = (-maps[i, 0]).tolist()
        curve = oracles.perturbation_curve(model, images[i], weakest_first, target, baseline[i], 5, 20, True)
        want = sum(after >= before for before, after in itertools.pairwise(curve)) / 20
        assert got[i].item() == pytest.approx(want)


def test_some_orders_rise_and_some_do_not():
    """A probability that rises with the light of the right half and falls with that of the left one."""
    images = torch.ones(2, 1, 4, 4)
    sides = torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(4, 4)
    model = lambda x: torch.stack([(x[:, 0] * sides).sum((1, 2)), x.new_zeros(len(x))], 1)  # noqa: E731 - a model
    maps = torch.stack([sides, -sides])[:, None] + torch.arange(16.0).view(4, 4) / 100
    target = torch.tensor([0, 0])
    got = monotonicity(model, images, maps, target, images * 0, patches=4, steps=16)
    torch.testing.assert_close(got, torch.tensor([0.5, 0.5]), msg="half of the steps go down, whatever comes first")
    everywhere = lambda x: torch.stack([x.sum((1, 2, 3)), x.new_zeros(len(x))], 1)  # noqa: E731 - a model
    assert monotonicity(everywhere, images, maps, target, images * 0, patches=4, steps=16).eq(1).all()
    falling = lambda x: -everywhere(x)  # noqa: E731 - a model
    assert monotonicity(falling, images, maps, target, images * 0, patches=4, steps=16).eq(0).all()


def test_a_fall_within_the_tolerance_is_none(images, maps, targets):
    shaky = lambda x: torch.stack([-1e-6 * x.sum((1, 2, 3)), x.new_zeros(len(x)), x.new_zeros(len(x))], 1)  # noqa: E731
    targets = torch.zeros_like(targets)
    assert monotonicity(shaky, images, maps, targets, images * 0, patches=7).eq(1).all()
    assert monotonicity(shaky, images, maps, targets, images * 0, patches=7, tolerance=0.0).eq(0).all()
