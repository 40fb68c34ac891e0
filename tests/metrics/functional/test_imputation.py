"""What is imputed solves the paper's equations; what is left of the class then."""

from __future__ import annotations

import oracles
import pytest
import torch

from captum_softcam.metrics.functional import noisy_linear_imputation, road_curve


@pytest.mark.parametrize("shape", [(13,), (6, 7), (3, 4, 5)])
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_imputation(shape, share):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, *shape, dtype=torch.float64, generator=generator)
    removed = torch.rand(2, 1, *shape, generator=generator) < share
    removed.view(2, -1)[:, 3] = False
    got = noisy_linear_imputation(images, removed, noise=0.0)
    for i in range(2):
        torch.testing.assert_close(got[i], oracles.imputed(images[i], removed[i, 0]), atol=2e-4, rtol=0)


def test_imputation_keeps_planes_and_what_was_kept():
    """A linear ramp is the mean of its neighbours: what is removed from its inside comes back."""
    ramp = (torch.arange(12.0)[:, None] + 2 * torch.arange(15.0)).expand(2, 3, 12, 15)
    removed = torch.zeros(2, 1, 12, 15, dtype=torch.bool)
    removed[0, :, 2:9, 3:13] = True
    torch.testing.assert_close(noisy_linear_imputation(ramp, removed, noise=0.0), ramp, atol=1e-3, rtol=0)
    flat = torch.full((2, 3, 12, 15), 0.7)
    removed[1] = True
    removed[1, :, 0, 0] = False
    torch.testing.assert_close(noisy_linear_imputation(flat, removed, noise=0.0), flat, atol=1e-4, rtol=0)


def test_noise_is_in_the_holes_alone_and_the_same_for_all(images):
    images = images[:1].expand(4, -1, -1, -1)
    removed = torch.zeros(4, 1, 7, 9, dtype=torch.bool)
    removed[:3, :, 2:6, 1:8] = True
    first, again, other = (noisy_linear_imputation(images, removed, noise=0.1, seed=seed) for seed in (0, 0, 1))
    clean = noisy_linear_imputation(images, removed, noise=0.0)
    torch.testing.assert_close(first, again)
    torch.testing.assert_close(first[:3], first[:1].expand(3, -1, -1, -1))
    torch.testing.assert_close(first[3], images[3])
    assert (first - other).abs().max() > 0.05
    grain = (first - clean)[0][:, removed[0, 0]]
    assert 0.05 < grain.std() < 0.15
    assert (grain[0] - grain[1]).abs().max() > 0.05, "each channel has its own"


def test_others_of_the_batch_do_not_matter(images):
    """One image is solved in a step, one after some, another needs many, and a black one has nothing to solve."""
    removed = torch.zeros(4, 1, 7, 9, dtype=torch.bool)
    removed[0, :, 3, 3] = True
    removed[1] = True
    removed[1, :, 0, 0] = False
    removed[2:, :, 1:5, 1:6] = True
    images = torch.cat([images[:3], torch.zeros_like(images[:1])])
    together = noisy_linear_imputation(images, removed)
    alone = torch.cat([noisy_linear_imputation(images[i : i + 1], removed[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("accuracy", [False, True])
def test_road(model, images, maps, targets, accuracy):
    maps = (2 * maps).round()  # ties
    fractions = [0.1, 0.5, 0.95]
    got = road_curve(model, images, maps, targets, fractions=fractions, accuracy=accuracy, noise=0.0)
    for i, target in enumerate(targets.tolist()):
        order = sorted(range(63), key=lambda p, i=i: -maps[i].flatten().tolist()[p])
        for k, share in enumerate(fractions):
            removed = torch.zeros(63, dtype=torch.bool)
            removed[order[: round(share * 63)]] = True
            shown = oracles.imputed(images[i], removed.view(7, 9))
            want = oracles.probability(model, shown, target)
            if accuracy:
                want = float(model(shown[None])[0].argmax() == target)
            assert got[i, k].item() == pytest.approx(want, abs=1e-5)


def test_road_of_small_and_large_fractions(model, images, maps, targets):
    got = road_curve(model, images, maps, targets, fractions=[1e-3, 0.999], accuracy=False, noise=0.0)
    whole = [oracles.probability(model, image, int(target)) for image, target in zip(images, targets, strict=True)]
    torch.testing.assert_close(got[:, 0], torch.tensor(whole, dtype=torch.float64), msg="not one position")
    lowest = maps.flatten(1).argmin(1)
    left = images.flatten(2)[torch.arange(4), :, lowest]
    flat = left[:, :, None, None].expand_as(images)
    want = [oracles.probability(model, image, int(target)) for image, target in zip(flat, targets, strict=True)]
    torch.testing.assert_close(got[:, 1], torch.tensor(want, dtype=torch.float64), atol=1e-4, rtol=0)


def test_refusals(model, images, maps, targets):
    for fractions in ([], [0.0], [0.5, 1.0]):
        with pytest.raises(ValueError, match="fractions must lie between 0 and 1"):
            road_curve(model, images, maps, targets, fractions=fractions)
    with pytest.raises(ValueError, match="keep at least one position to impute from"):
        noisy_linear_imputation(images, torch.ones(4, 1, 7, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"images are \(4, 2, 7, 9\) and maps \(4, 1, 7, 8\)"):
        road_curve(model, images, maps[..., 1:], targets)
    with pytest.raises(ValueError, match=r"gives \(4, 2, 7, 9\) for 4 images; expected logits"):
        road_curve(lambda x: x, images, maps, targets)
