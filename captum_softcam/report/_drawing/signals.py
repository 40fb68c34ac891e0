"""Draw signals: their channels as lines one above the other, with the colours of a map along each line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor

__all__ = ["draw_signal"]


def draw_signal(axis: Axes, signal: Tensor, colours: Any = None, mask: Tensor | None = None) -> None:
    """Draw the channels of a signal on one scale, without overlap, the first on top.

    Args:
        axis (matplotlib.axes.Axes): to draw into.
        signal (Tensor): (C, L); values that are not finite are gaps.
        colours (ndarray): of a map, (L, 3), drawn behind each line. Default: none
        mask (Tensor): (1, L), whose parts are shaded. Default: none
    """
    lanes = _lanes(signal)
    places = np.arange(signal.shape[1])
    for lane in lanes.numpy():
        if colours is not None:
            points = np.stack([places, lane], 1)
            parts = np.stack([points[:-1], points[1:]], 1)
            # Each part ends in the middle of two values; round ends close the gaps.
            axis.add_collection(LineCollection(list(parts), colors=colours[1:], linewidths=3, capstyle="round", zorder=1))
        axis.plot(places, lane, color="black", linewidth=0.5, zorder=2)
    low, high = float(lanes.nan_to_num(0).min()), float(lanes.nan_to_num(0).max())
    margin = 0.05 * ((high - low) or 1.0)
    axis.set(xlim=(-0.5, signal.shape[1] - 0.5), ylim=(low - margin, high + margin), xticks=[], yticks=[])
    if mask is not None:
        _shade(axis, mask[0])


def _lanes(signal: Tensor) -> Tensor:
    finite = signal.where(signal.isfinite(), torch.nan)
    known = finite.nan_to_num(0)
    step = 1.1 * float((known.amax(1) - known.amin(1)).max()) or 1.0
    return finite - known.mean(1, keepdim=True) - step * torch.arange(len(signal))[:, None]


def _shade(axis: Axes, mask: Tensor) -> None:
    edges = np.flatnonzero(np.diff(np.pad(mask.numpy(), 1))) - 0.5
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        axis.axvspan(start, end, color="#d5d5d5", linewidth=0, zorder=0)
