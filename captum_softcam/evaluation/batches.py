"""Samples on their way through a comparison, checked as they are loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_softcam.data import Sample, Samples

__all__ = ["Batch", "device_of", "load_batch", "timed"]


@dataclass(frozen=True)
class Batch:
    """A few samples with what the model says of them; masks (N, 1, H, W), False where a sample has none."""

    samples: list[Sample]
    images: Tensor
    labels: Tensor
    targets: Tensor
    predictions: Tensor
    masks: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]
    forward_seconds: float


@torch.no_grad()
def load_batch(
    model: nn.Module,
    samples: Samples,
    start: int,
    batch_size: int,
    normalize: Callable[[Tensor], Tensor],
    explain: str,
) -> Batch:
    """The next samples, checked, with what the model says of them."""
    part = [samples[i] for i in range(start, min(start + batch_size, len(samples)))]
    size = part[0].image.shape[1:]
    for sample in part:
        _check_sizes(sample, size)
    images = normalize(torch.stack([sample.image for sample in part]).to(device_of(model)))
    logits, seconds = timed(lambda: model(images))
    for sample in part:
        _check_class(sample, logits)
    labels = torch.tensor([sample.target for sample in part], device=images.device)
    predictions = logits.argmax(1)
    return Batch(
        samples=part,
        images=images,
        labels=labels,
        targets=labels if explain == "true" else predictions,
        predictions=predictions,
        masks=np.stack([_mask(sample, size) for sample in part]),
        has_mask=np.array([sample.mask is not None for sample in part]),
        forward_seconds=seconds,
    )


def _check_sizes(sample: Sample, size: torch.Size) -> None:
    if sample.image.shape[1:] != size:
        raise ValueError(
            f"sample '{sample.identifier}' is {tuple(sample.image.shape[1:])} pixels, the ones before {tuple(size)}; "
            "resize them to one size."
        )
    if sample.mask is None:
        return
    if sample.mask.shape[1:] != size:
        raise ValueError(
            f"the mask of sample '{sample.identifier}' is {tuple(sample.mask.shape[1:])} pixels, its image {tuple(size)}."
        )
    if not sample.mask.any():
        raise ValueError(f"the mask of sample '{sample.identifier}' is empty; give None where there is nothing to localise.")


def _check_class(sample: Sample, logits: Tensor) -> None:
    if not 0 <= sample.target < logits.shape[1]:
        raise ValueError(
            f"sample '{sample.identifier}' has class {sample.target}; the model gives {logits.shape[1]} logits, "
            f"so classes 0 to {logits.shape[1] - 1}."
        )


def _mask(sample: Sample, size: torch.Size) -> NDArray[np.bool_]:
    return np.zeros((1, *size), bool) if sample.mask is None else sample.mask.cpu().numpy().astype(bool)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What ``work`` gives and the seconds it took, waiting for the device."""
    start = time.perf_counter()
    result = work()
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    return result, time.perf_counter() - start
