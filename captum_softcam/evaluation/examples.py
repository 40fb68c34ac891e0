"""Examples as arrays, for a file: the image in 8 bits, the maps in half precision, which is what an eye can tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam._maps import signed_scale
from captum_softcam.data import Sample
from captum_softcam.evaluation.comparison import Example

__all__ = ["pack", "rounded", "unpack"]

Arrays = dict[str, NDArray[Any]]


def pack(example: Example) -> Arrays:
    """An example as arrays with names."""
    sample = example.sample
    facts = [sample.target, example.target, -1 if example.rival is None else example.rival]
    arrays: Arrays = {
        "identifier": np.array(sample.identifier),
        "facts": np.array(facts),
        "image": (sample.image.cpu() * 255).round().clamp(0, 255).byte().numpy(),
        **_halves("map", example.maps),
        **_halves("rival", example.rival_maps),
    }
    if sample.mask is not None:
        arrays["mask"] = sample.mask.cpu().numpy()
    if example.probabilities is not None:
        arrays["probabilities"] = example.probabilities.float().cpu().numpy()
    return arrays


def unpack(arrays: Mapping[str, NDArray[Any]]) -> Example:
    """The example that :func:`pack` made arrays of."""
    label, target, rival = (int(fact) for fact in arrays["facts"])
    return Example(
        sample=Sample(
            image=torch.from_numpy(arrays["image"]).float() / 255,
            target=label,
            mask=torch.from_numpy(arrays["mask"]) if "mask" in arrays else None,
            identifier=str(arrays["identifier"]),
        ),
        target=target,
        maps=_maps("map", arrays),
        probabilities=torch.from_numpy(arrays["probabilities"]) if "probabilities" in arrays else None,
        rival=None if rival < 0 else rival,
        rival_maps=_maps("rival", arrays),
    )


def rounded(example: Example) -> Example:
    """The example as it comes back from a file, so that a run is the same whether it was cut off or not."""
    return unpack(pack(example))


def _halves(kind: str, maps: Mapping[str, Tensor]) -> Arrays:
    """Maps in half precision and their peaks, for what is below 6e-8 or above 65,504 has no half."""
    arrays: Arrays = {}
    for name, values in maps.items():
        scaled = signed_scale(values[None].double())[0].cpu().numpy()
        arrays[f"{kind} {name}"] = scaled.astype(np.float16)
        arrays[f"{kind} peak {name}"] = np.array(values.double().abs().max().item())
    return arrays


def _maps(kind: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    peaks = {name.removeprefix(f"{kind} peak "): peak for name, peak in arrays.items() if name.startswith(f"{kind} peak ")}
    return {name: torch.from_numpy(arrays[f"{kind} {name}"] * peak).float() for name, peak in peaks.items()}
