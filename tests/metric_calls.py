"""Calls of the functions of tensors by name: arguments are filled in by theirs, so that a new function needs no entry."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_softcam.metrics import functional

_SMALL = {  # few enough for 2 patches per side of a signal
    "accuracy": False,
    "patches": 2,
    "regions_evaluation": 2,
    "runs": 5,
    "fractions": (0.2, 0.6),
    "sides": (1, 2),
    "sizes": (1,),
    "steps": 4,
    "subset_size": 1,
}
_SETTINGS = {"top_k_localisation_precision": {"k": 2}, "insensitivity": {"tolerance": 0.9}}


def parameters(name: str) -> set[str]:
    """Names of the parameters of a function."""
    return set(inspect.signature(getattr(functional, name)).parameters)


def versions_of(maps: Tensor) -> Tensor:
    """Two further maps of each sample, (N, 2, ...)."""
    own = maps.double()
    other = own.flatten(2).flip(2).view_as(own)
    return torch.cat([own + 0.1 * other, other - 0.3 * own], 1)


def call(
    name: str, model: Any, images: Tensor, maps: Tensor, targets: Tensor, masks: Tensor | None = None, **more
) -> Tensor:
    """Scores (N,) of a function; of curves the mean."""
    made: dict[str, Callable[[], Any]] = {
        "forward_func": lambda: model,
        "images": lambda: images,
        "maps": lambda: maps,
        "masks": lambda: masks,
        "targets": lambda: targets,
        "baseline": lambda: torch.zeros((), dtype=images.dtype, device=images.device),
        "segments": lambda: (torch.arange(maps[0].numel(), device=maps.device) // 7).view(maps[:1].shape).expand_as(maps),
        "masked_maps": lambda: maps.flip(2),
        "other_maps": lambda: maps.flip(2),
        "others": lambda: maps.flip(2),
        "randomised_maps": lambda: [maps.flip(2), maps.roll(1, 2)],
        "cells": lambda: torch.arange(len(maps), device=maps.device) * 0,
        "confidences": lambda: functional.confidence(model, images, targets),
        "masked_confidences": lambda: functional.masked_confidence(model, images, maps, targets),
        "drops": lambda: call("average_drop", model, images, maps, targets),
        "gaps": lambda: call("road_curve", model, images, -maps, targets) - call("road_curve", model, images, maps, targets),
        "coherencies": lambda: call("coherency", model, images, maps, targets),
        "noisy_maps": lambda: versions_of(maps),
        "shifted_maps": lambda: versions_of(maps),
        "mirrored_maps": lambda: versions_of(maps)[:, :1],
        "offsets": lambda: [(by,) * (maps.dim() - 2) for by in (1, -1)],
        "versions": lambda: functional.noisy_images(images, runs=2),
        "same_predictions": lambda: torch.ones(len(maps), 2, dtype=torch.bool, device=maps.device),
        "outputs": lambda: torch.full((len(maps),), 2.0, device=maps.device),
        "baseline_outputs": lambda: torch.full((len(maps),), 0.5, device=maps.device),
        "complexities": lambda: functional.map_complexity(maps),
    }
    settings = {**_SMALL, **_SETTINGS.get(name, {}), **more}
    given = {key: make() for key, make in made.items() if key in parameters(name)}
    scores: Tensor = getattr(functional, name)(**given, **{k: v for k, v in settings.items() if k in parameters(name)})
    return scores.mean(1) if scores.dim() > 1 else scores
