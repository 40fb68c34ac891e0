"""The controls know the image at most."""

from __future__ import annotations

import oracles
import pytest
import torch

from captum_softcam.evaluation import CONTROLS, CentredGaussian, EdgeMap, RandomMap
from captum_softcam.evaluation.controls import image_seed, name_seed

SIZES = [(9,), (5, 7), (3, 4, 5), (1, 6)]


@pytest.mark.parametrize("control", CONTROLS.values())
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shape_precision_and_batch(control, size):
    images = torch.rand(3, 2, *size, dtype=torch.float64)
    maps = control(lambda x: x).attribute(images, target=1)
    assert maps.shape == (3, 1, *size)
    assert maps.dtype == torch.float64
    assert torch.equal(control(lambda x: x).attribute(images[1:2]), maps[1:2])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_edges_are_the_slope_of_the_mean_of_the_channels(size):
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    want = torch.stack([oracles.edge_magnitude(image)[None] for image in images])
    torch.testing.assert_close(EdgeMap(lambda x: x).attribute(images), want, atol=1e-12, rtol=0)


def test_a_step_is_an_edge_and_a_plane_is_none():
    image = torch.zeros(1, 1, 6, 8)
    assert not EdgeMap(lambda x: x).attribute(image).any()
    image[..., 4:] = 1
    edges = EdgeMap(lambda x: x).attribute(image)[0, 0]
    assert torch.equal(edges, torch.tensor([0, 0, 0, 0.5, 0.5, 0, 0, 0]).expand(6, 8))


def test_noise_belongs_to_the_image_not_to_the_batch():
    images, state = torch.rand(3, 3, 8, 9), torch.get_rng_state()
    maps = RandomMap(lambda x: x).attribute(images)
    assert not torch.equal(maps[0], maps[1])
    assert not torch.equal(RandomMap(lambda x: x, seed=1).attribute(images), maps)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_may_belong_to_a_name():
    images = torch.rand(3, 3, 8, 9)
    named = RandomMap(lambda x: x).attribute(images, seeds=[name_seed(name) for name in ("a", "b", "a")])
    assert torch.equal(named[0], named[2])
    assert not torch.equal(named[0], named[1])
    assert torch.equal(RandomMap(lambda x: x).attribute(images.flip(0), seeds=[name_seed("b")] * 3)[0], named[1])
    noise = RandomMap(lambda x: x).attribute(torch.rand(1, 1, 200, 200), seeds=[5])
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


@pytest.mark.parametrize("size", [*SIZES, (64, 64), (1, 1)], ids=str)
def test_the_seed_of_an_image_is_that_of_what_it_shows(size):
    images = torch.rand(20, 3, *size, generator=torch.Generator().manual_seed(0)) * 4 - 2
    seeds = [image_seed(image) for image in images]
    assert len(set(seeds)) == (20 if size != (1, 1) else 1)
    assert [image_seed(image * (1 + 2e-7)) for image in images] == seeds, "another machine rounds otherwise"
    assert [image_seed(image.double()) for image in images] == seeds
    assert image_seed(torch.full((3, *size), torch.nan)) == image_seed(torch.zeros(3, *size))
    if size == (64, 64):
        noisy = [image_seed(image + 0.2 * torch.randn(image.shape, generator=torch.Generator())) for image in images]
        assert not set(noisy) & set(seeds)


def test_the_bell_stands_in_the_middle():
    bell = CentredGaussian(lambda x: x).attribute(torch.rand(2, 3, 9, 15))
    assert bell.shape == (2, 1, 9, 15)
    assert bell[1, 0].argmax() == 4 * 15 + 7
    torch.testing.assert_close(bell, bell.flip(2, 3))
    torch.testing.assert_close(bell[0, 0, 4, 0], torch.tensor(2.0).neg().exp())  # two widths from the middle
