"""Samples on their way through a comparison, checked as they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from captum_softcam._names import named, quoted, shown
from captum_softcam._scores import score_table
from captum_softcam.data import Sample
from captum_softcam.evaluation.costs import CostMeter
from captum_softcam.metrics import Batch

__all__ = ["check_sample", "device_of", "make_batch", "with_mask"]

_SIGNAL = 2  # dimensions, channels first


@torch.no_grad()
def make_batch(
    model: nn.Module,
    samples: Sequence[Sample],
    size: tuple[int, ...],
    normalize: Callable[[Tensor], Tensor],
    explain: Literal["true", "predicted"],
    seed: int = 0,
    *,
    single: bool = False,
) -> tuple[Batch, float]:
    """Validate samples and stack them on the model's device; run the model once, and return the seconds that it took.

    Raises:
        ValueError: for an image or a mask of another size, an empty mask, a class the model does not have, or a model that
            gives no logits (N, K), a single one only where ``single`` allows it.
    """
    for sample in samples:
        check_sample(sample, size, len(samples[0].image))
    device = device_of(model)
    images = normalize(torch.stack([sample.image for sample in samples]).to(device))
    with CostMeter(model) as meter:
        outputs = model(images)
    score_table(outputs, len(images), single=single)
    for sample in samples:
        _check_class(sample, outputs)
    labels = torch.tensor([sample.target for sample in samples], device=device)
    masks = torch.stack([_mask(sample, size) for sample in samples]).to(device)
    targets = labels if explain == "true" else outputs.argmax(1)
    return Batch(model, images, targets, masks, outputs=outputs, seed=seed), meter.seconds


def with_mask(sample: Sample, mask: Tensor) -> Sample:
    """Return the sample with ``mask`` in place of its own; one without a mask stays without."""
    return sample if sample.mask is None else replace(sample, mask=mask.cpu())


def check_sample(sample: Sample, size: tuple[int, ...], channels: int) -> None:
    """Raise ValueError unless image and mask have this size, the image these channels, and the mask a position above 0."""
    name = shown(sample.identifier)
    if sample.image.dim() < _SIGNAL:
        raise ValueError(
            f"the image of sample '{named(name)}' is {tuple(sample.image.shape)}; expected a signal (C, L), an image "
            "(C, H, W) or "
            "a volume."
        )
    if sample.image.shape[1:] != size:
        raise ValueError(
            f"sample '{named(name)}' is {tuple(sample.image.shape[1:])} pixels, the first one {tuple(size)}; "
            "resize them to one size."
        )
    if len(sample.image) != channels:
        raise ValueError(
            f"sample '{named(name)}' has {len(sample.image)} channels, another one {channels}; bring all images to "
            "one number."
        )
    if sample.mask is None:
        return
    if tuple(sample.mask.shape) not in ((1, *size), tuple(size)):
        raise ValueError(
            f"the mask of sample '{named(name)}' is {tuple(sample.mask.shape)}, its image {tuple(size)} pixels; expected "
            f"{(1, *size)}."
        )
    if not (sample.mask > 0).any():
        raise ValueError(f"the mask of sample '{named(name)}' is empty; give None where there is nothing to localise.")


def _check_class(sample: Sample, logits: Tensor) -> None:
    if not 0 <= sample.target < logits.shape[1]:
        raise ValueError(
            f"sample '{shown(sample.identifier)}' has class {quoted(sample.target)}; the model gives {logits.shape[1]} "
            f"logits, so classes 0 to {logits.shape[1] - 1}."
        )


def _mask(sample: Sample, size: tuple[int, ...]) -> Tensor:
    """The mask as bool (1, ...): what is above 0 is evidence, in masks of 0 and 255 as in those of -1 and 1."""
    return torch.zeros(1, *size, dtype=torch.bool) if sample.mask is None else (sample.mask > 0).view(1, *size)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
