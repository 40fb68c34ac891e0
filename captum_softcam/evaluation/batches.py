"""Samples on their way through a comparison, checked as they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from captum_softcam.data import Sample
from captum_softcam.evaluation.costs import CostMeter

__all__ = ["Batch", "device_of", "make_batch"]


@dataclass(frozen=True)
class Batch:
    """A few samples with what the model says of them; masks (N, 1, H, W), False where a sample has none."""

    samples: Sequence[Sample]
    images: Tensor
    masks: Tensor
    logits: Tensor
    targets: Tensor
    seconds: float


@torch.no_grad()
def make_batch(
    model: nn.Module,
    samples: Sequence[Sample],
    size: tuple[int, ...],
    normalize: Callable[[Tensor], Tensor],
    explain: Literal["true", "predicted"],
) -> Batch:
    """Samples of one size, checked, on the model's device, with what the model says of them and the seconds it took.

    Raises:
        ValueError: for an image or a mask of another size, an empty mask, or a class the model does not have.
    """
    for sample in samples:
        _check_sizes(sample, size)
    device = device_of(model)
    images = normalize(torch.stack([sample.image for sample in samples]).to(device))
    with CostMeter(model) as meter:
        logits = model(images)
    for sample in samples:
        _check_class(sample, logits)
    labels = torch.tensor([sample.target for sample in samples], device=device)
    return Batch(
        samples=samples,
        images=images,
        masks=torch.stack([_mask(sample, size) for sample in samples]).to(device),
        logits=logits,
        targets=labels if explain == "true" else logits.argmax(1),
        seconds=meter.seconds,
    )


def _check_sizes(sample: Sample, size: tuple[int, ...]) -> None:
    if sample.image.shape[1:] != size:
        raise ValueError(
            f"sample '{sample.identifier}' is {tuple(sample.image.shape[1:])} pixels, the first one {tuple(size)}; "
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


def _mask(sample: Sample, size: tuple[int, ...]) -> Tensor:
    return torch.zeros(1, *size, dtype=torch.bool) if sample.mask is None else sample.mask.bool()


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
