"""Targets in Captum's forms, which no class needs to be called for."""

from __future__ import annotations

import pytest
import torch

from captum_softcam._intervention.targets import AllScores, OneScore, row_targets, select_score

SCORES = torch.arange(12.0).view(3, 4)


@pytest.mark.parametrize(
    ("target", "want"),
    [
        (None, [None, None]),
        (True, [1, 1]),
        (torch.tensor(2), [2, 2]),
        (torch.tensor([1, 0]), [1, 0]),
        ((1, 0), [(1, 0)] * 2),
        ([3, 1], [3, 1]),
    ],
)
def test_a_target_for_each_example(target, want):
    assert row_targets(target, 2) == want


def test_a_single_output_needs_no_target():
    assert torch.equal(select_score(SCORES[:, :1], None), SCORES[:, 0])
    with pytest.raises(AssertionError, match="no target for scores"):
        select_score(SCORES, None)


def test_one_score_and_all():
    assert torch.equal(OneScore([3, 1], 2)(SCORES, 1), SCORES[:, 1:2])
    assert torch.equal(AllScores()(SCORES, 1), SCORES)
    assert OneScore(None, 0)(SCORES, 0).shape == (3, 1), "there is no example that a target could be missing for"
