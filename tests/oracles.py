"""Slow, literal versions of the methods: loops in float64 that share nothing with the package."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def recipro_cam(features: Tensor, tail: Callable[[Tensor], Tensor], target: int) -> Tensor:
    """Score of ``target`` when only one position of ``features`` (C, h, w) is kept; ``tail`` maps (1, C, h, w) to (1, K)."""
    _, height, width = features.shape
    scores = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            mask = torch.zeros(1, height, width, dtype=torch.float64)
            mask[0, i, j] = 1
            scores[i, j] = tail((features * mask)[None])[0, target]
    return scores


def class_activation_map(features: Tensor, weight: Tensor, target: int) -> Tensor:
    """CAM: sum over channels of weight (K, C) times features (C, h, w)."""
    channels, height, width = features.shape
    maps = torch.zeros(height, width, dtype=torch.float64)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                maps[i, j] += weight[target, c] * features[c, i, j]
    return maps


def soft_cam(features: Tensor, weight: Tensor, bias: Tensor, target: int) -> Tensor:
    """Evidence of a linear head at every position: weight (K, C) times features (C, h, w) plus bias (K,)."""
    return class_activation_map(features, weight, target) + bias[target]


def elastic_net(evidence: Tensor, lambda_l1: float, lambda_l2: float) -> Tensor:
    """Penalty of each example of evidence (N, K, h, w), cell by cell."""
    penalties = []
    for example in evidence:
        penalty = 0.0
        for cell in example.flatten().tolist():
            penalty += lambda_l1 * abs(cell) + lambda_l2 * cell**2
        penalties.append(penalty)
    return torch.tensor(penalties, dtype=torch.float64)


def faithfulness_correlation(attribution: list[float], drops: list[tuple[list[int], float]]) -> float:
    """Pearson correlation of summed attribution and drop of the score, over subsets of features."""
    sums = [sum(attribution[i] for i in subset) for subset, _ in drops]
    falls = [drop for _, drop in drops]
    mean_sum, mean_fall = sum(sums) / len(sums), sum(falls) / len(falls)
    covariance = sum((a - mean_sum) * (b - mean_fall) for a, b in zip(sums, falls, strict=True))
    spread = sum((a - mean_sum) ** 2 for a in sums) * sum((b - mean_fall) ** 2 for b in falls)
    return covariance / spread**0.5


def region_perturbation(drops: list[float]) -> float:
    """Area over the perturbation curve: the mean drop of the score, the untouched image (drop 0) included."""
    return sum([0.0, *drops]) / (len(drops) + 1)


def relevance_mass(attribution: list[float], mask: list[bool]) -> float:
    """Share of the positive attribution that lies within the mask."""
    inside = sum(max(a, 0.0) for a, m in zip(attribution, mask, strict=True) if m)
    return inside / sum(max(a, 0.0) for a in attribution)


def relevance_rank(attribution: list[float], mask: list[bool]) -> float:
    """Share of the mask among the highest-ranked positions, as many as the mask has; ties in reading order."""
    order = sorted(range(len(attribution)), key=lambda i: -attribution[i])
    size = sum(mask)
    return sum(mask[i] for i in order[:size]) / size


def pointing_game(attribution: list[float], mask: list[bool]) -> float:
    """1 if the greatest value (any of them) lies within the mask."""
    peak = max(attribution)
    return float(any(m for a, m in zip(attribution, mask, strict=True) if a == peak))


def localisation_auc(attribution: list[float], mask: list[bool]) -> float:
    """Chance that a position of the mask is ranked above one outside it; ties count half."""
    inside = [a for a, m in zip(attribution, mask, strict=True) if m]
    outside = [a for a, m in zip(attribution, mask, strict=True) if not m]
    wins = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    return wins / (len(inside) * len(outside))
