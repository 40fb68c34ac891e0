"""Flat maps, scales and sizes."""

from __future__ import annotations

import torch

from captum_softcam._maps import is_flat, rescale, signed_scale, upsample

MAPS = torch.tensor([[[[1.0, 3.0]]], [[[-4.0, -2.0]]], [[[0.0, 0.0]]], [[[7.0, 7.0]]]])


def test_is_flat():
    assert is_flat(MAPS).tolist() == [False, False, True, True]
    assert is_flat(torch.tensor([[[[1.0, float("nan")]]], [[[1.0, float("inf")]]]])).tolist() == [True, True]


def test_a_constant_map_stays_flat_when_it_is_upsampled():
    assert is_flat(upsample(torch.full((1, 1, 3, 5), 0.1234567), (160, 97))).all()


def test_rescale():
    assert rescale(MAPS).flatten(1).tolist() == [[0, 1], [0, 1], [0, 0], [0, 0]]


def test_signed_scale():
    want = torch.tensor([[1 / 3, 1.0], [-1.0, -0.5], [0.0, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(signed_scale(MAPS).flatten(1), want)


def test_upsample_keeps_signs_and_size():
    up = upsample(MAPS.expand(4, 1, 2, 2), (6, 8))
    assert up.shape == (4, 1, 6, 8)
    assert (up[1] < 0).all()
    assert upsample(up, (6, 8)) is up
