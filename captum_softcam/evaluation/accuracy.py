"""Held-out accuracy of a classifier, with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scipy.stats import binomtest

from captum_softcam._scores import score_table

if TYPE_CHECKING:
    from captum_softcam.data import Samples
    from captum_softcam.softcam import Classifier

__all__ = ["accuracy"]


@torch.no_grad()
def accuracy(classifier: Classifier, samples: Samples, batch_size: int = 50) -> tuple[float, float, float]:
    """Share of ``samples`` whose class is predicted, with the 95 % Wilson interval; a single logit says 1 above 0, else 0.

    Args:
        classifier (Classifier): in eval mode.
        samples (Samples): images (3, H, W) in [0, 1] with their classes.
        batch_size (int): images per forward. Default: 50

    Returns:
        tuple of float: share, lower and upper end of the interval, in [0, 1]. Cost: one forward per sample.

    Raises:
        ValueError: if there are no samples, or the model gives no logits (N, K).
    """
    if not len(samples):
        raise ValueError("there are no samples to predict; give at least one.")
    correct = 0
    for start in range(0, len(samples), batch_size):
        batch = [samples[i] for i in range(start, min(start + batch_size, len(samples)))]
        logits = classifier.model(classifier.normalize(torch.stack([sample.image for sample in batch])))
        score_table(logits, len(batch), single=True)
        predicted = logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0
        correct += int((predicted == torch.tensor([sample.target for sample in batch])).sum())
    interval = binomtest(correct, len(samples)).proportion_ci(method="wilson")
    return correct / len(samples), float(interval.low), float(interval.high)
