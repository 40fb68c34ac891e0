"""Average drop, coherency and complexity, and their harmonic mean, ADCC.

The parts are functions of what is measured once and shared: the :func:`confidence` :math:`p(x)` in the image, the
:func:`masked_confidence` :math:`p(E)` in what the map leaves of it, the map of the image and the map of the masked image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from captum_softcam._names import named, shown
from captum_softcam.metrics.functional._answers import probabilities_of
from captum_softcam.metrics.functional._correlation import pearson
from captum_softcam.metrics.functional._edges import (
    activation,
    nan_if_no_evidence,
    refuse_other_images,
    refuse_other_maps,
    usable_maps,
)

__all__ = [
    "adcc",
    "adcc_of_means",
    "average_drop",
    "coherency",
    "confidence",
    "increase_in_confidence",
    "masked_confidence",
    "masked_images",
]


def confidence(forward_func: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """Softmax probability of the class of each image.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        targets (Tensor): (N,), the class of each image.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: one forward.

    Raises:
        ValueError: if the scores are not (N, K).
    """
    return probabilities_of(forward_func, images, [images], targets)[:, 0]


def masked_images(images: Tensor, maps: Tensor) -> Tensor:
    r"""The images where their maps are, darker elsewhere: the explanation maps of :cite:t:`chattopadhay2018gradcampp`.

    .. math:: E = x \cdot S, \qquad S = \mathrm{minmax}(\max(A, 0))

    with image :math:`x` and map :math:`A`, whatever its scale. Nothing is left where the map ranks nothing or has no
    positive evidence. Departures from the papers: negative evidence is cut off, and the map is scaled at input resolution,
    so that it reaches 0 and 1 there.

    Args:
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.

    Returns:
        Tensor: (N, C, ...). Cost: no forward.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size.
    """
    refuse_other_images(images, maps)
    shares = nan_if_no_evidence(activation(maps), maps).nan_to_num(nan=0.0)
    return images * shares.view_as(maps).to(images.dtype)


def masked_confidence(forward_func: Callable[[Tensor], Tensor], images: Tensor, maps: Tensor, targets: Tensor) -> Tensor:
    """Softmax probability of the class of each image when only :func:`masked_images` is shown.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing or have no positive evidence. Cost: one forward.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, or the scores are not (N, K).
    """
    scores = confidence(forward_func, masked_images(images, maps), targets)
    return nan_if_no_evidence(scores, usable_maps(images, maps))


def average_drop(confidences: Tensor, masked_confidences: Tensor) -> Tensor:
    r"""Share of the confidence that is lost when the model sees what the map marks alone; lower is better.

    .. math:: \frac{\max(0, p(x) - p(E))}{p(x)}

    From :cite:t:`chattopadhay2018gradcampp`; called *average* for its mean over a data set, which is left to the caller.
    NaN where either confidence is, and where there was no confidence to lose, :math:`p(x) = 0`.

    Args:
        confidences (Tensor): (N,), :math:`p(x)` from :func:`confidence`.
        masked_confidences (Tensor): (N,), :math:`p(E)` from :func:`masked_confidence`.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: the two forwards behind the confidences.

    Raises:
        ValueError: if the confidences are not (N,), or not in [0, 1].
    """
    _refuse_other_shares(confidences=confidences, masked_confidences=masked_confidences)
    return (confidences - masked_confidences).relu() / confidences


def increase_in_confidence(confidences: Tensor, masked_confidences: Tensor) -> Tensor:
    """Whether the model is surer when it sees what the map marks alone, 1 or 0; higher is better.

    From :cite:t:`chattopadhay2018gradcampp`; equal confidence is no increase. NaN where either confidence is.

    Args:
        confidences (Tensor): (N,), :math:`p(x)` from :func:`confidence`.
        masked_confidences (Tensor): (N,), :math:`p(E)` from :func:`masked_confidence`.

    Returns:
        Tensor: (N,), 0 or 1. Cost: the two forwards behind the confidences.

    Raises:
        ValueError: if the confidences are not (N,), or not in [0, 1].
    """
    _refuse_other_shares(confidences=confidences, masked_confidences=masked_confidences)
    gains = masked_confidences - confidences
    return (gains > 0).to(gains.dtype).masked_fill(gains.isnan(), math.nan)


def coherency(maps: Tensor, masked_maps: Tensor) -> Tensor:
    r"""Whether the map stays when the model sees what it marks alone :cite:p:`poppi2021adcc`; higher is better.

    .. math:: \frac{1 + \mathrm{pearson}(S(x), S(E))}{2}, \qquad S = \mathrm{minmax}(\max(A, 0))

    with the map :math:`A` of the image and of the masked image, both for the class of the image. NaN where either map
    ranks nothing or has no positive evidence.

    Args:
        maps (Tensor): (N, 1, ...), the maps of the images.
        masked_maps (Tensor): (N, 1, ...), the maps of their :func:`masked_images`.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: no forward, but a second attribution by the caller.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of one shape.
    """
    refuse_other_maps(maps)
    if maps.shape != masked_maps.shape:
        raise ValueError(f"maps are {tuple(maps.shape)} and masked_maps {tuple(masked_maps.shape)}; expected one shape.")
    scores = (1 + pearson(activation(maps), activation(masked_maps))) / 2
    return nan_if_no_evidence(nan_if_no_evidence(scores, maps), masked_maps)


def adcc(drops: Tensor, coherencies: Tensor, complexities: Tensor) -> Tensor:
    r"""Harmonic mean of what is kept, stays and is left out, of each sample :cite:p:`poppi2021adcc`; higher is better.

    .. math:: \frac{3}{\frac{1}{\mathrm{Coh}} + \frac{1}{1 - \mathrm{Com}} + \frac{1}{1 - \mathrm{Drop}}}

    Departure from the authors' code, which divides by zero there: 0, the limit, where :math:`\mathrm{Coh} = 0`,
    :math:`\mathrm{Com} = 1` or :math:`\mathrm{Drop} = 1`. NaN where a part is. Tables of papers show
    :func:`adcc_of_means`.

    Args:
        drops (Tensor): (N,), from :func:`average_drop`.
        coherencies (Tensor): (N,), from :func:`coherency`.
        complexities (Tensor): (N,), from :func:`map_complexity`.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: no forward beyond those of the parts.

    Raises:
        ValueError: if the parts are not (N,), or not in [0, 1].
    """
    _refuse_other_shares(drops=drops, coherencies=coherencies, complexities=complexities)
    return 3 / (1 / coherencies + 1 / (1 - complexities) + 1 / (1 - drops))


def adcc_of_means(drops: Tensor, coherencies: Tensor, complexities: Tensor) -> Tensor:
    """ADCC of a data set as papers print it :cite:p:`poppi2021adcc`: :func:`adcc` of the means; higher is better.

    Never below the mean of the samples' own values, for the harmonic mean is concave. The means are over the samples that
    have all three parts: say how many these are.

    Args:
        drops (Tensor): (N,), from :func:`average_drop`.
        coherencies (Tensor): (N,), from :func:`coherency`.
        complexities (Tensor): (N,), from :func:`map_complexity`.

    Returns:
        Tensor: a scalar in [0, 1]; NaN where no sample has all three parts. Cost: no forward beyond those of the parts.

    Raises:
        ValueError: if the parts are not (N,), or not in [0, 1].
    """
    _refuse_other_shares(drops=drops, coherencies=coherencies, complexities=complexities)
    whole = ~(drops + coherencies + complexities).isnan()
    means = (part[whole].mean()[None] for part in (drops, coherencies, complexities))
    return adcc(*means)[0]


def _refuse_other_shares(**parts: Tensor) -> None:
    """Raise ValueError unless the parts are (N,), of one N, and in [0, 1] or NaN."""
    count = next(iter(parts.values())).numel()
    for name, values in parts.items():
        if values.shape != (count,):
            shapes = ", ".join(f"{other} {tuple(each.shape)}" for other, each in parts.items())
            raise ValueError(f"expected (N,), one value per sample; got {shown(shapes)}.")
        if ((values < 0) | (values > 1)).any():
            worst = values[(values < 0) | (values > 1)][0].item()
            raise ValueError(f"{named(name)} must lie in [0, 1], as shares and not in percent; got {worst:g}.")
