"""The number of copies that run at a time."""

from __future__ import annotations

import pytest
import torch

from captum_softcam._intervention.call import chunk_size


def test_the_default_is_32_mebibytes_of_copies_and_one_at_least():
    assert chunk_size(None, torch.empty(1, 2**18)) == 32
    assert chunk_size(None, torch.empty(1, 2**18, dtype=torch.float64)) == 16
    assert chunk_size(None, torch.empty(1, 2**24)) == 1
    assert chunk_size(7, torch.empty(1, 2**24)) == 7
    with pytest.raises(ValueError, match=r"perturbations_per_eval must be at least 1; got -1\."):
        chunk_size(-1, torch.empty(1, 1))
