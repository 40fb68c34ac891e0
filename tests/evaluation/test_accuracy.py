"""The accuracy of a classifier, against counting by hand and Wilson's formula."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from captum_softcam.data import Sample
from captum_softcam.evaluation import accuracy


def classifier():
    """Says class 1 where the first pixel is above one half."""

    def model(images):
        return torch.stack([torch.full((len(images),), 0.5), images[:, 0, 0, 0]], 1)

    return SimpleNamespace(model=model, normalize=lambda images: images)


def samples(count, right):
    """The first ``right`` of them are told right."""
    return [Sample(torch.ones(3, 4, 4), int(i < right), None, f"s{i}") for i in range(count)]


@pytest.mark.parametrize(("count", "right"), [(7, 5), (3, 0), (3, 3)])
@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_share_and_wilson_interval(count, right, batch_size):
    share, low, high = accuracy(classifier(), samples(count, right), batch_size)
    z, p = 1.959963984540054, right / count
    centre, half = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    assert share == pytest.approx(p)
    assert low == pytest.approx((centre - half) / (1 + z * z / count), abs=1e-12)
    assert high == pytest.approx((centre + half) / (1 + z * z / count), abs=1e-12)


def test_nobody_to_predict():
    with pytest.raises(ValueError, match=r"^there are no samples to predict; pass at least one\.$"):
        accuracy(classifier(), [])


def test_a_single_logit_says_1_above_0():
    """Its argmax would say 0 of everything."""
    single = SimpleNamespace(model=lambda images: images[:, :1, 0, 0] - 0.5, normalize=lambda images: images)
    assert accuracy(single, samples(4, 3))[0] == 0.75
    with pytest.raises(ValueError, match=r"the model gives \(4,\) for 4 images; expected logits"):
        accuracy(SimpleNamespace(model=lambda images: images[:, 0, 0, 0], normalize=lambda x: x), samples(4, 3))
