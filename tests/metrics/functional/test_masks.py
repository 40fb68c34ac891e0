"""Masks from boxes."""

from __future__ import annotations

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_softcam.metrics.functional import boxes_to_masks

coordinates = st.integers(-2, 16).map(lambda i: i / 2)


@pytest.mark.parametrize("size", [[6], [5, 7], [3, 4, 5]])
@given(data=st.data())
def test_equals_the_oracle(size, data):
    box = st.lists(coordinates, min_size=2 * len(size), max_size=2 * len(size))
    samples = data.draw(st.lists(st.lists(box, max_size=3), min_size=1, max_size=3))
    masks = boxes_to_masks([torch.tensor(boxes, dtype=torch.float32) for boxes in samples], size)
    assert torch.equal(masks, torch.stack([oracles.in_boxes(boxes, size) for boxes in samples])[:, None])


def test_x_runs_along_the_last_dimension_and_the_end_is_not_part():
    mask = boxes_to_masks(torch.tensor([[2, 1, 5, 3]]), (4, 6))
    assert mask.shape == (1, 1, 4, 6)
    assert mask[0, 0].nonzero().tolist() == [[1, 2], [1, 3], [1, 4], [2, 2], [2, 3], [2, 4]]


def test_refusals():
    with pytest.raises(ValueError, match=r"boxes are \(1, 4\); expected \(B, 6\): 3 lower and 3 upper"):
        boxes_to_masks([torch.tensor([[0, 0, 2, 2]])], (4, 4, 4))
