"""The ElasticNet penalty against its literal version."""

from __future__ import annotations

import oracles
import pytest
import torch

from captum_softcam.softcam import ElasticNetEvidenceLoss


@pytest.fixture
def evidence() -> torch.Tensor:
    return torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_equals_the_oracle(evidence, weights):
    want = oracles.elastic_net(evidence, *weights)
    torch.testing.assert_close(ElasticNetEvidenceLoss(*weights, reduction="none")(evidence), want)
    torch.testing.assert_close(ElasticNetEvidenceLoss(*weights)(evidence), want.mean())
    torch.testing.assert_close(ElasticNetEvidenceLoss(*weights, reduction="sum")(evidence), want.sum())


def test_its_settings_are_printed():
    assert str(ElasticNetEvidenceLoss(0.1, 0.2)) == "ElasticNetEvidenceLoss(lambda_l1=0.1, lambda_l2=0.2, reduction='mean')"


def test_every_image_of_the_batch_is_penalised(evidence):
    evidence.requires_grad_()
    ElasticNetEvidenceLoss(0.1, 0.1)(evidence).backward()
    assert (evidence.grad.flatten(1).abs().sum(1) > 0).all()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="must be >= 0; got -1 and 0"):
        ElasticNetEvidenceLoss(-1, 0)
    with pytest.raises(ValueError, match="reduction 'batch' is unknown"):
        ElasticNetEvidenceLoss(reduction="batch")


def test_equal_parts_average_to_the_whole(evidence):
    penalty = ElasticNetEvidenceLoss(0.3, 0.2)
    torch.testing.assert_close((penalty(evidence[:2]) + penalty(evidence[2:])) / 2, penalty(evidence))


def test_the_papers_norm_pulls_as_the_docstring_says(evidence):
    one, weight = evidence[:1].requires_grad_(), 4e-5
    (theirs,) = torch.autograd.grad(weight * one.norm(), one)
    (ours,) = torch.autograd.grad(ElasticNetEvidenceLoss(0.0, weight / (2 * one.norm().item()))(one), one)
    torch.testing.assert_close(ours, theirs)
