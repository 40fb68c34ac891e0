"""Segments of images, and the area over the curve while they are taken away."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch import Tensor

from captum_softcam.metrics.functional import irof, superpixels


def blocks(shape: tuple[int, ...], numbers: list[int]) -> Tensor:
    """Segments of samples (N, 1, ...) that have that many each."""
    positions = torch.arange(torch.Size(shape).numel())
    return torch.stack([(positions * n // len(positions)).view(1, *shape) for n in numbers])


@pytest.mark.parametrize("shape", [(11,), (7, 9), (2, 3, 4)])
@pytest.mark.parametrize("steps", [3, 20])
def test_irof(shape, steps):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, *shape, dtype=torch.float64, generator=generator)
    maps = torch.randn(3, 1, *shape, dtype=torch.float64, generator=generator)
    maps[1] = maps[1].round()  # ties
    segments, targets, baseline = blocks(shape, [4, 7, 2]), torch.tensor([1, 0, 1]), images.flip(2)
    model = lambda x: torch.stack([x.flatten(1).cumsum(1).sin().sum(1), x.sum(tuple(range(1, x.dim())))], 1)  # noqa: E731
    got = irof(model, images, maps, targets, baseline, segments, steps=steps)
    for i in range(3):
        want = oracles.irof(model, images[i], maps[i, 0], int(targets[i]), baseline[i], segments[i, 0], steps)
        assert got[i].item() == pytest.approx(want)


def test_the_right_segment_first():
    """All probability comes from one segment of four: taken first it leaves the rest of the curve at the bottom."""
    images = torch.ones(2, 3, 8, 8)
    segments = blocks((8, 8), [4, 4])
    model = lambda x: torch.stack([30 * (x * (segments[:1] == 2)).mean((1, 2, 3)), x.new_full((len(x),), 3.75)], 1)  # noqa: E731
    maps = torch.stack([(segments[0] == 2).float(), (segments[0] != 2).float()])
    got = irof(model, images, maps, torch.tensor([0, 0]), images * 0, segments, steps=4)
    left = 1 / (1 + torch.tensor(3.75).exp())  # what the empty image says, in shares of the whole
    left = left / (1 / (1 + torch.tensor(3.75 - 7.5).exp()))
    want = torch.stack([1 - (0.5 * (1 + left) + 3 * left) / 4, 1 - (3 + 0.5 * (1 + left)) / 4])
    torch.testing.assert_close(got, want)


def test_an_image_of_one_segment_has_no_order(model, images, maps, targets):
    got = irof(model, images, maps, targets, images * 0, blocks((7, 9), [1, 2, 3, 1]))
    assert got.isnan().tolist() == [True, False, False, True]


def test_where_there_is_no_probability_there_is_none_to_lose(images, maps, targets):
    sure = lambda x: torch.stack([1e4 + x.sum((1, 2, 3)), *x.new_zeros(2, len(x))], 1)  # noqa: E731 - a model
    got = irof(sure, images, maps, targets, images * 0, blocks((7, 9), [3] * 4))
    assert got.isnan().tolist() == [target != 0 for target in targets.tolist()]


def test_superpixels_are_the_images_own_parts():
    images = torch.zeros(3, 3, 20, 30)
    images[0, 0, :, 15:] = 1
    images[1] = torch.linspace(0, 9, 20 * 30 * 3).sin().view(20, 30, 3).movedim(2, 0)
    segments = superpixels(images, count=20)
    assert segments.shape == (3, 1, 20, 30)
    assert segments.dtype == torch.long
    for each in segments:
        assert each.unique().tolist() == list(range(int(each.max()) + 1)), "no gap"
    assert not set(segments[0, 0, :, :15].unique().tolist()) & set(segments[0, 0, :, 15:].unique().tolist())
    assert 5 <= segments[1].max() <= 40
    torch.testing.assert_close(superpixels(images[1:2], count=20), segments[1:2])
    torch.testing.assert_close(superpixels(5 * images[1:2] - 2, count=20), segments[1:2], msg="whatever the units")


def test_superpixels_of_one_channel_and_of_volumes():
    for shape in [(1, 12, 13), (2, 6, 7, 8)]:
        segments = superpixels(torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)), count=8)
        assert segments.shape == (2, 1, *shape[1:])
        assert segments.flatten(1).amax(1).gt(0).all()


def test_refusals(model, images, maps, targets):
    segments = blocks((7, 9), [3, 3, 3, 3])
    with pytest.raises(ValueError, match="steps must be >= 1; got 0"):
        irof(model, images, maps, targets, images * 0, segments, steps=0)
    with pytest.raises(ValueError, match=r"images are \(4, 2, 7, 9\) and maps \(4, 1, 7, 8\)"):
        irof(model, images, maps, targets, images * 0, segments[..., 1:])
