"""Insertion and deletion against their literal versions, their areas, and what replaces the evidence."""

from __future__ import annotations

import itertools
import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import gaussian_blur

from captum_softcam.metrics.functional import (
    area_under_curve,
    black_baseline,
    blur_baseline,
    deletion_curve,
    insertion_curve,
    mean_baseline,
    monotonicity,
    region_perturbation,
    region_perturbation_curve,
    step_fractions,
)

BLACK = torch.zeros(())


@pytest.mark.parametrize("inserted", [False, True])
@pytest.mark.parametrize(("patches", "steps"), [(3, 9), (4, 5), (7, 7)])
def test_curves(model, images, maps, targets, patches, steps, inserted):
    baseline = images.mean((2, 3), keepdim=True)
    maps[1] = maps[1].round()  # ties
    curve = (insertion_curve if inserted else deletion_curve)(
        model, images, maps, targets, baseline, patches=patches, steps=steps
    )
    for i, target in enumerate(targets.tolist()):
        flat = baseline[i].expand_as(images[i])
        want = oracles.perturbation_curve(model, images[i], maps[i, 0].tolist(), target, flat, patches, steps, inserted)
        torch.testing.assert_close(curve[i], torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("inserted", [False, True])
@pytest.mark.parametrize("shape", [(11,), (4, 5), (2, 3, 4)])
def test_curves_of_single_positions(model, targets, shape, inserted):
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(4, 2, *shape, dtype=torch.float64, generator=generator)
    maps = torch.randn(4, 1, *shape, generator=generator).mul(3).round()  # ties
    baseline = mean_baseline(images)
    score = insertion_curve if inserted else deletion_curve
    curve = score(model, images, maps, targets, baseline, patches=None, steps=7)
    for i, target in enumerate(targets.tolist()):
        want = oracles.pixel_curve(model, images[i], maps[i, 0], target, baseline[i], 7, inserted)
        torch.testing.assert_close(curve[i], torch.tensor(want, dtype=torch.float64))


def test_curves_run_from_all_to_nothing(model, images, maps, targets):
    whole, nothing = (model(x).softmax(1).gather(1, targets[:, None])[:, 0] for x in (images, images * 0))
    deletion = deletion_curve(model, images, maps, targets, BLACK, patches=7, steps=7)
    insertion = insertion_curve(model, images, maps, targets, BLACK, patches=7, steps=7)
    torch.testing.assert_close(deletion[:, [0, -1]], torch.stack([whole, nothing], 1))
    torch.testing.assert_close(insertion[:, [-1, 0]], torch.stack([whole, nothing], 1))


@given(seed=st.integers(0, 1000), inverse=st.booleans())
def test_what_goes_last_comes_first(model_of, seed, inverse):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 2, 4, 6, dtype=torch.float64, generator=generator)
    maps = torch.randn(2, 1, 4, 6, generator=generator)
    targets, settings = torch.tensor([0, 2]), {"patches": None if inverse else 4, "steps": 8}
    deletion = deletion_curve(model_of, images, -maps, targets, BLACK, **settings)
    insertion = insertion_curve(model_of, images, maps, targets, BLACK, **settings)
    torch.testing.assert_close(insertion, deletion.flip(1))


@pytest.fixture(scope="module")
def model_of():
    """A linear model, for hypothesis asks for fixtures that do not change between examples."""
    weights = torch.randn(48, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return lambda images: images.flatten(1) @ weights


def test_what_is_replaced_by_itself_stays(model, images, maps, targets):
    curve = deletion_curve(model, images, maps, targets, images, patches=3, steps=4)
    torch.testing.assert_close(curve, curve[:, :1].expand_as(curve))


def test_forwards_and_gradients(model, images, maps, targets):
    calls = []

    def counted(batch):
        calls.append(torch.is_grad_enabled())
        return model(batch)

    deletion_curve(counted, images, maps, targets, BLACK, patches=7, steps=5)
    assert calls == [False] * 6
    calls.clear()
    region_perturbation(counted, images, maps, targets, BLACK, patches=7, regions_evaluation=5)
    assert calls == [False] * 6


@pytest.mark.parametrize(("patches", "regions"), [(3, 1), (4, 5), (None, 9)])
def test_region_perturbation(model, images, maps, targets, patches, regions):
    maps[1] = maps[1].round()  # ties
    settings = {"patches": patches, "regions_evaluation": regions}
    got = region_perturbation(model, images, maps, targets, images * 0, **settings)
    drops_of = region_perturbation_curve(model, images, maps, targets, images * 0, **settings)
    for i, target in enumerate(targets.tolist()):
        if patches:
            values, black = maps[i, 0].tolist(), images[i] * 0
            curve = oracles.perturbation_curve(model, images[i], values, target, black, patches, patches**2, False)
        else:
            curve = oracles.pixel_curve(model, images[i], maps[i, 0], target, images[i] * 0, maps[i].numel(), False)
        drops = [curve[0] - point for point in curve[1 : regions + 1]]
        assert drops_of[i].tolist() == pytest.approx([0, *drops], abs=1e-9)
        assert got[i].item() == pytest.approx(oracles.region_perturbation(drops), abs=1e-9)


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


def test_unsigned_maps_are_not_turned_over(model, images, maps, targets):
    maps = (100 * maps.abs()).to(torch.uint8)
    got = monotonicity(model, images, maps, targets, BLACK, patches=7, steps=7)
    assert torch.equal(got, monotonicity(model, images, maps.float(), targets, BLACK, patches=7, steps=7))
    assert not torch.equal(got, monotonicity(model, images, -maps.float(), targets, BLACK, patches=7, steps=7))


def test_a_fall_within_the_tolerance_is_none(images, maps, targets):
    shaky = lambda x: torch.stack([-1e-6 * x.sum((1, 2, 3)), x.new_zeros(len(x)), x.new_zeros(len(x))], 1)  # noqa: E731
    targets = torch.zeros_like(targets)
    assert monotonicity(shaky, images, maps, targets, images * 0, patches=7).eq(1).all()
    assert monotonicity(shaky, images, maps, targets, images * 0, patches=7, tolerance=0.0).eq(0).all()


def test_areas_over_the_true_fraction():
    fractions = step_fractions((7, 9), patches=3, steps=4)
    assert fractions.mul(9).tolist() == pytest.approx([0, 2, 4, 7, 9])
    assert step_fractions((224, 224)).tolist() == [step / 16 for step in range(17)]
    assert step_fractions((3, 5), patches=None, steps=15).mul(15).tolist() == pytest.approx(list(range(16)))
    curves = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    want = [oracles.trapezoids(curve, fractions.tolist()) for curve in curves.tolist()]
    torch.testing.assert_close(area_under_curve(curves, fractions), torch.tensor(want, dtype=torch.float64))
    even = [oracles.trapezoids(curve, [0, 0.25, 0.5, 0.75, 1]) for curve in curves.tolist()]
    torch.testing.assert_close(area_under_curve(curves), torch.tensor(even, dtype=torch.float64))


def test_area_is_that_of_trapezoids():
    assert area_under_curve(torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])).tolist() == [0.5, 1.0]


def test_black_and_mean(images):
    assert black_baseline(images).eq(0).all()
    black = black_baseline(images, value=[-2.0, 0.5])
    assert black.shape == images.shape
    assert black[:, 0].eq(-2).all()
    assert black[:, 1].eq(0.5).all()
    for image, mean in zip(images, mean_baseline(images), strict=True):
        for channel, flat in zip(image, mean, strict=True):
            want = sum(channel.flatten().tolist()) / channel.numel()
            torch.testing.assert_close(flat, torch.full_like(flat, want))


@pytest.mark.parametrize("sigma", [0.4, 1.0, 30.0])
@pytest.mark.parametrize("shape", [(9,), (5, 4), (3, 4, 1)])
def test_blur(shape, sigma):
    images = torch.rand(2, 2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    blurred = blur_baseline(images, sigma=sigma)
    for n in range(2):
        for c in range(2):
            torch.testing.assert_close(blurred[n, c], oracles.blur(images[n, c], sigma))


def test_blur_equals_torchvision(images):
    want = gaussian_blur(images, [2 * math.ceil(3 * 0.8) + 1] * 2, [0.8, 0.8])
    torch.testing.assert_close(blur_baseline(images, sigma=0.8), want)
    flat = torch.full_like(images, 0.3)
    torch.testing.assert_close(blur_baseline(flat), flat)


def test_refusals(model, images, maps, targets):
    with pytest.raises(ValueError, match="a side of 7 positions cannot be cut into 8 patches"):
        deletion_curve(model, images, maps, targets, BLACK, patches=8)
    with pytest.raises(ValueError, match="cannot be cut into 0 patches"):
        step_fractions((7, 9), patches=0)
    with pytest.raises(ValueError, match="steps must be >= 1; got 0"):
        deletion_curve(model, images, maps, targets, BLACK, patches=7, steps=0)
    with pytest.raises(ValueError, match=r"images are \(4, 2, 7, 9\) and maps \(4, 1, 7, 8\)"):
        insertion_curve(model, images, maps[..., 1:], targets, BLACK, patches=7)
    with pytest.raises(ValueError, match=r"gives \(4, 2, 7, 9\) for 4 images; expected logits"):
        insertion_curve(lambda x: x, images, maps, targets, BLACK, patches=7)
    for regions in (0, 10):
        with pytest.raises(ValueError, match=f"must be from 1 to the number of patches, 9; got {regions}"):
            region_perturbation(model, images, maps, targets, BLACK, patches=3, regions_evaluation=regions)
    with pytest.raises(ValueError, match=r"curves are \(4, 1\)"):
        area_under_curve(torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"fractions are \(3,\); expected \(2,\)"):
        area_under_curve(torch.zeros(4, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="sigma must be > 0; got 0"):
        blur_baseline(images, sigma=0)
    with pytest.raises(ValueError, match="value has 3 entries; expected 1 or one for each of the 2 channels"):
        black_baseline(images, value=[0, 0, 0])
