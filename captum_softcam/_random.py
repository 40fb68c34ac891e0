"""Seeds of the generators that Python, NumPy and PyTorch share between all threads of a process."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["ONE_AT_A_TIME", "random_numbers"]

ONE_AT_A_TIME = threading.RLock()
"""Held while filters of warnings or seeds are set, because all threads of the process share them."""


@contextmanager
def random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of PyTorch, NumPy and Python within the block, and restore their states afterwards.

    Other threads that enter such a block wait for this one to end.

    Args:
        seed (int): of all generators.
        device (torch.device): of which the generator is seeded besides that of the CPU.
    """
    with ONE_AT_A_TIME, torch.random.fork_rng([device] if device.type == "cuda" else []):
        # fork_rng restores PyTorch's generators alone, while Captum's GradientShap and Quantus draw from NumPy's.
        states = np.random.get_state(), random.getstate()
        try:
            _seed(seed, device)
            yield
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])


def _seed(seed: int, device: torch.device) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # NumPy's legacy generator has seeds of 32 bits
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every other device, too
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
