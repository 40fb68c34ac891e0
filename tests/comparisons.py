"""Tiny comparisons that several files of tests run."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from networks import PooledNet
from torch import Tensor

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, compare_methods
from captum_softcam.softcam import SoftCamModel, convert_to_softcam

METHODS = ["soft_cam", "grad_cam", "random"]
METRICS = ["pointing_game", "relevance_mass_accuracy", "deletion", "faithfulness_correlation", "average_drop"]
CHEAP = [name for name in METRICS if name != "faithfulness_correlation"]


def make_model() -> SoftCamModel:
    torch.manual_seed(0)
    return convert_to_softcam(PooledNet().eval())


def make_samples(count: int = 5) -> list[Sample]:
    """Samples of 16 x 24 pixels, the first of them without a mask."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 16, 24, dtype=torch.bool)
    mask[:, 3:9, 5:20] = True
    images = torch.rand(count, 3, 16, 24, generator=generator)
    return [Sample(image, i % 4, mask if i else None, f"s{i}") for i, image in enumerate(images)]


class SlowSamples:
    """Samples that take a moment to read, so that a run can be cut off in its middle."""

    def __init__(self, count: int, seconds: float) -> None:
        self.samples, self.seconds = make_samples(count), seconds

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        time.sleep(self.seconds)
        return self.samples[index]


def sorted_scores(comparison: Comparison) -> pd.Series:
    return comparison.scores.set_index(["sample", "method", "metric"])["score"].sort_index()


def deadly(marker: Path) -> Any:
    """A method that kills its process the first time that it is called."""

    def explain(model: torch.nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), 9)
        return model.evidence_maps(images).gather(1, targets.view(-1, 1, 1, 1).expand(-1, 1, 8, 12)).detach()

    return explain


def run(folder: str, resume: bool) -> Comparison:
    """The comparison that is cut off and resumed."""
    return compare_methods(
        make_model(), SlowSamples(24, 0.02), METHODS, CHEAP, batch_size=2, folder=folder, resume=resume, examples=3
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(sys.argv[1], resume=sys.argv[2] == "resume")
