"""Axioms against their literal versions, and the methods that satisfy them."""

from __future__ import annotations

import math
from dataclasses import replace

import oracles
import pytest
import torch
from torch import Tensor, nn

from captum_softcam.data import Sample
from captum_softcam.evaluation import compare_methods
from captum_softcam.metrics import METRICS, Batch, Explanation
from captum_softcam.metrics.functional import completeness, flip_symmetry, insensitivity
from captum_softcam.softcam import convert_to_softcam


@pytest.mark.parametrize("total", ["either", "sum", "mean"])
def test_completeness_equals_the_oracle(total, maps):
    outputs, empty = torch.tensor([0.1, -2.0, 8.0, 0.0]), torch.tensor([0.0, 1.0, 2.0, 9.0])
    want = [
        oracles.completeness(m.flatten().tolist(), a, b, total)
        for m, a, b in zip(maps, outputs.tolist(), empty.tolist(), strict=True)
    ]
    assert completeness(maps, outputs, empty, total=total).tolist() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("shape", [(11,), (4, 5), (2, 3, 4)])
def test_flip_symmetry_equals_the_oracle(shape):
    maps, others = torch.randn(2, 3, 1, *shape, generator=torch.Generator().manual_seed(0))
    want = [oracles.flip_symmetry(m[0], o[0]) for m, o in zip(maps, others, strict=True)]
    assert flip_symmetry(maps, others).tolist() == pytest.approx(want, rel=1e-5)
    torch.testing.assert_close(flip_symmetry(maps, maps.flip(-1)), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(flip_symmetry(maps, maps), torch.zeros(3, dtype=torch.float64))


def test_a_map_that_is_its_own_mirror_image_says_nothing(maps):
    symmetric = (maps + maps.flip(-1)).float()
    rounded = symmetric * (1 + 1e-7 * torch.rand(symmetric.shape))
    assert flip_symmetry(rounded, symmetric).isnan().all()


@pytest.mark.parametrize("tolerance", [0.0, 0.3, 0.7])
def test_insensitivity_equals_the_oracle(tolerance, model, images, maps, targets):
    baseline, found = torch.zeros(2, 7, 9, dtype=torch.float64), []
    for image, values in zip(images, maps, strict=True):
        means, without = [], []
        for a in range(3):
            for b in range(3):
                cells = [
                    float(values[0, i, j])
                    for i in range(7)
                    for j in range(9)
                    if oracles.patch_of((i, j), [7, 9], 3) == (a, b)
                ]
                means.append(sum(cells) / len(cells))
                shown = oracles.without_patches(image, baseline, {(a, b)}, 3)
                without.append(model(shown[None])[0].tolist())
        found.append(oracles.insensitivity(means, model(image[None])[0].tolist(), without, tolerance))
    got = insensitivity(model, images, maps, targets, baseline, patches=3, tolerance=tolerance)
    assert got.tolist() == pytest.approx(found, nan_ok=True)


class _UpperHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        half = x[:, :, : x.shape[2] // 2].flatten(2).mean(2)
        return torch.stack([half.sum(1), -half[:, 0]], 1)


def test_relevance_on_what_the_model_ignores():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    values = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    right, wrong = values.clone(), values.clone()
    right[:, :, 8:], wrong[:, :, :8] = 0, 0
    batch = Batch(_UpperHalf().eval(), images, torch.zeros(2, dtype=torch.long), patches=4)
    metric = replace(METRICS["insensitivity"], settings={**METRICS["insensitivity"].settings, "tolerance": 0.01})
    measure = lambda maps: metric.measure(Explanation(batch, maps, lambda *_, **__: maps))  # noqa: E731
    assert measure(right).tolist() == [0, 0]
    assert measure(wrong).tolist() == pytest.approx([2, 2])
    assert measure(-wrong).tolist() == pytest.approx([2, 2]), "negative relevance is relevance"


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_model_that_ignores_all_or_nothing(scale, images, maps, targets, model):
    got = insensitivity(lambda x: scale * model(x), images, maps, targets, torch.zeros((), dtype=torch.float64), patches=2,
                        tolerance=0.0)  # fmt: skip
    assert got.isnan().all()


def test_completeness_of_methods():
    """SoftCAM averages to the logit at a layer of 5 x 5 of an image of 14 x 14, integrated gradients add up to it."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 6, stride=2), nn.Softplus())
    model = convert_to_softcam(nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval())
    images = torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    samples = [Sample(image=image, target=1, mask=None, identifier=str(i)) for i, image in enumerate(images)]
    compared = compare_methods(model, samples, ["soft_cam", "integrated_gradients", "random"], ["completeness"], examples=0)
    errors = compared.scores.groupby("method").score.max()
    assert errors["soft_cam"] < 1e-6
    assert errors["integrated_gradients"] < 1e-3
    assert errors["random"] > 0.1


def test_refusals(model, images, maps, targets):
    logits = torch.zeros(4)
    with pytest.raises(ValueError, match=r"outputs are \(4, 1\) and baseline_outputs \(4,\) for 4 maps; expected \(N,\)"):
        completeness(maps, logits[:, None], logits)
    with pytest.raises(ValueError, match=r"total is 'means'. Closest: 'mean'"):
        completeness(maps, logits, logits, total="means")
    with pytest.raises(ValueError, match=r"mirrored_maps are \(4, 1, 9, 7\)"):
        flip_symmetry(maps, maps.mT)
    for tolerance in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"tolerance must be a fraction in \[0, 1\); got"):
            insensitivity(model, images, maps, targets, torch.zeros(()), tolerance=tolerance)
