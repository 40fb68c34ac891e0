"""Signals and volumes: a comparison with the default methods and metrics, drawn and reported."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_softcam.data import Sample
from captum_softcam.evaluation import compare_methods
from captum_softcam.report import plot_panel, write_report


@pytest.mark.parametrize(
    ("size", "kinds"),
    [
        ((64,), (nn.Conv1d, nn.AdaptiveAvgPool1d)),
        ((8, 16, 12), (nn.Conv3d, nn.AdaptiveAvgPool3d)),
    ],
    ids=["signals", "volumes"],
)
def test_a_comparison_by_default(size, kinds, tmp_path):
    torch.manual_seed(0)
    conv, pool = kinds
    model = nn.Sequential(conv(2, 6, 3, 2, 1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[(0, *(slice(1, 5) for _ in size))] = True
    samples = [Sample(torch.rand(2, *size), number, mask, f"s{number}") for number in range(2)]
    comparison = compare_methods(model, samples, folder=None)
    assert {"recipro_cam", "grad_cam"} <= set(comparison.scores["method"])
    assert {"insertion", "deletion", "pointing_game"} <= set(comparison.scores["metric"])
    assert comparison.failures.empty
    assert len(plot_panel(comparison.examples).axes) > 6
    write_report(comparison, tmp_path / "report.html")
