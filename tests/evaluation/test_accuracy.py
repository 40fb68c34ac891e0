"""The accuracy of a classifier, against counting by hand and Wilson's formula."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from captum_softcam.data import Sample
from captum_softcam.evaluation import accuracy


class Function(nn.Module):
    """A function of the images as a model."""

    def __init__(self, function, device="cpu"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device=device))
        self.forward = function


def classifier(function=None, device="cpu", scores="softmax"):
    """Says class 1 where the first pixel is above one half, unless there is another function."""

    def model(images):
        return torch.stack([torch.full((len(images),), 0.5), images[:, 0, 0, 0]], 1)

    return SimpleNamespace(model=Function(function or model, device), normalize=lambda images: images, scores=scores)


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


def test_a_sample_without_a_class_is_refused():
    unknown = Sample(torch.zeros(3, 4, 4), -1, None, "photo.jpg")
    with pytest.raises(ValueError, match=r"sample 'photo\.jpg' has no class \(target -1\); leave it out"):
        accuracy(classifier(), [*samples(3, 2), unknown])


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_a_single_logit_says_1_above_0(scores):
    """Its argmax would say 0 of everything."""
    single = classifier(lambda images: images[:, :1, 0, 0] - 0.5, scores=scores)
    assert accuracy(single, samples(4, 3))[0] == 0.75
    with pytest.raises(ValueError, match=r"the model gives \(4,\) for 4 images; expected logits"):
        accuracy(classifier(lambda images: images[:, 0, 0, 0]), samples(4, 3))


def test_a_single_value_says_nothing():
    with pytest.raises(ValueError, match="the model gives a single value and predicts no class"):
        accuracy(classifier(lambda images: images[:, :1, 0, 0], scores="identity"), samples(4, 3))


@pytest.mark.parametrize("scores", ["sigmoid", "identity"])
def test_the_highest_of_several_is_predicted(scores):
    assert accuracy(classifier(scores=scores), samples(4, 3))[0] == 0.75


def test_images_are_moved_to_the_device_of_the_model():
    """The device without memory is there on every machine; its images have no values, so the logits are made up."""
    seen = []

    def model(images):
        seen.append(images.device.type)
        return torch.tensor([[0.0, 1.0]]).expand(len(images), 2)

    assert accuracy(classifier(model, "meta"), samples(3, 2))[0] == pytest.approx(2 / 3)
    assert seen == ["meta"]
