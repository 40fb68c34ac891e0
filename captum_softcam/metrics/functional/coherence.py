"""Average drop, coherency and complexity, and their harmonic mean, ADCC.

Their arguments are measured once and shared: the :func:`confidence` :math:`p(x)` for the image, the
:func:`masked_confidence` :math:`p(E)` for the image masked by its map, and the maps of both images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from captum_softcam._names import named, shown
from captum_softcam._scores import Scores
from captum_softcam.metrics.functional._answers import probabilities_of
from captum_softcam.metrics.functional._correlation import pearson
from captum_softcam.metrics.functional._edges import (
    activation,
    nan_if_not_positive,
    refuse_other_images,
    refuse_other_maps,
    usable_maps,
)

__all__ = [
    "adcc",
    "adcc_of_means",
    "arcc",
    "average_drop",
    "coherency",
    "confidence",
    "increase_in_confidence",
    "masked_confidence",
    "masked_images",
]


def confidence(
    forward_func: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, *, scores: Scores = "softmax"
) -> Tensor:
    """Compute the probability of the class of each image.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        targets (Tensor): (N,), the class of each image.
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N,), in [0, 1]; with ``"identity"`` or a function whatever it gives, which :func:`average_drop` refuses
        outside [0, 1]. Cost: one forward.

    Raises:
        ValueError: if the outputs are not (N, K).
    """
    return probabilities_of(forward_func, images, [images], targets, scores)[:, 0]


def masked_images(images: Tensor, maps: Tensor) -> Tensor:
    r"""Mask images by their maps: the explanation maps of :cite:t:`chattopadhay2018gradcampp`.

    .. math:: E = x \cdot S, \qquad S = \mathrm{minmax}(\max(A, 0))

    with image :math:`x` and map :math:`A` of any scale. The masked image is 0 where the map ranks nothing or has no positive
    relevance. Departures from the papers: negative relevance is set to 0, and the map is scaled at input resolution, so that
    its values reach from 0 to 1 there.

    Args:
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.

    Returns:
        Tensor: (N, C, ...). Cost: no forward.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size.
    """
    refuse_other_images(images, maps)
    # The model is shown 0 in place of NaN; scores of these images are set to NaN afterwards.
    weights = nan_if_not_positive(activation(maps), maps).nan_to_num(nan=0.0)
    return images * weights.view_as(maps).to(images.dtype)


def masked_confidence(
    forward_func: Callable[[Tensor], Tensor], images: Tensor, maps: Tensor, targets: Tensor, *, scores: Scores = "softmax"
) -> Tensor:
    """Compute the probability of the class of each image when it is masked by its map.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing or have no positive relevance. Cost: one forward.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, or the scores are not (N, K).
    """
    found = confidence(forward_func, masked_images(images, maps), targets, scores=scores)
    return nan_if_not_positive(found, usable_maps(images, maps))


def average_drop(confidences: Tensor, masked_confidences: Tensor) -> Tensor:
    r"""Compute the fraction of the confidence lost when the image is masked by its map; lower is better.

    .. math:: \frac{\max(0, p(x) - p(E))}{p(x)}

    From :cite:t:`chattopadhay2018gradcampp`. The name refers to the mean over a data set, which is left to the caller. NaN
    where a confidence is NaN, and where there is no confidence to lose, :math:`p(x) = 0`.

    Args:
        confidences (Tensor): (N,), :math:`p(x)` from :func:`confidence`.
        masked_confidences (Tensor): (N,), :math:`p(E)` from :func:`masked_confidence`.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: the two forwards behind the confidences.

    Raises:
        ValueError: if the confidences are not (N,), or not in [0, 1].
    """
    _refuse_other_fractions(confidences=confidences, masked_confidences=masked_confidences)
    # Where there is no confidence to lose, this is 0 / 0, NaN.
    return (confidences - masked_confidences).relu() / confidences


def increase_in_confidence(confidences: Tensor, masked_confidences: Tensor) -> Tensor:
    """Test whether the confidence rises when the image is masked by its map, 1 or 0; higher is better.

    From :cite:t:`chattopadhay2018gradcampp`; equal confidence does not count as an increase. NaN where a
    confidence is NaN.

    Args:
        confidences (Tensor): (N,), :math:`p(x)` from :func:`confidence`.
        masked_confidences (Tensor): (N,), :math:`p(E)` from :func:`masked_confidence`.

    Returns:
        Tensor: (N,), 0 or 1. Cost: the two forwards behind the confidences.

    Raises:
        ValueError: if the confidences are not (N,), or not in [0, 1].
    """
    _refuse_other_fractions(confidences=confidences, masked_confidences=masked_confidences)
    gains = masked_confidences - confidences
    # NaN > 0 is False, which would be a score of 0.
    return (gains > 0).to(gains.dtype).masked_fill(gains.isnan(), math.nan)


def coherency(maps: Tensor, masked_maps: Tensor) -> Tensor:
    r"""Compute the correlation of the maps of an image and of the masked image :cite:p:`poppi2021adcc`; higher is better.

    .. math:: \frac{1 + \mathrm{pearson}(S(x), S(E))}{2}, \qquad S = \mathrm{minmax}(\max(A, 0))

    with the map :math:`A` of the image and of the masked image, both for the class of the image. NaN where either map
    ranks nothing or has no positive relevance.

    Args:
        maps (Tensor): (N, 1, ...), the maps of the images.
        masked_maps (Tensor): (N, 1, ...), the maps of their :func:`masked_images`.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: no forward here, but a second attribution by the caller.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of one shape.
    """
    refuse_other_maps(maps)
    if maps.shape != masked_maps.shape:
        raise ValueError(f"maps are {tuple(maps.shape)} and masked_maps {tuple(masked_maps.shape)}; expected one shape.")
    scores = (1 + pearson(activation(maps), activation(masked_maps))) / 2
    return nan_if_not_positive(nan_if_not_positive(scores, maps), masked_maps)


def adcc(drops: Tensor, coherencies: Tensor, complexities: Tensor) -> Tensor:
    r"""Combine drop, coherency and complexity of each sample in a harmonic mean :cite:p:`poppi2021adcc`; higher is better.

    .. math:: \frac{3}{\frac{1}{\mathrm{Coh}} + \frac{1}{1 - \mathrm{Com}} + \frac{1}{1 - \mathrm{Drop}}}

    The score is 0, the limit, where :math:`\mathrm{Coh} = 0`, :math:`\mathrm{Com} = 1` or :math:`\mathrm{Drop} = 1`; the
    authors' code divides by zero there. NaN where a part is NaN. Papers report :func:`adcc_of_means`.

    Args:
        drops (Tensor): (N,), from :func:`average_drop`.
        coherencies (Tensor): (N,), from :func:`coherency`.
        complexities (Tensor): (N,), from :func:`map_complexity`.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: no forward beyond those of the parts.

    Raises:
        ValueError: if the parts are not (N,), or not in [0, 1].
    """
    _refuse_other_fractions(drops=drops, coherencies=coherencies, complexities=complexities)
    # 1 / 0 is infinite, and 3 / inf is 0, the limit.
    return 3 / (1 / coherencies + 1 / (1 - complexities) + 1 / (1 - drops))


def arcc(gaps: Tensor, coherencies: Tensor, complexities: Tensor) -> Tensor:
    r"""Combine ROAD, coherency and complexity of each sample in a harmonic mean :cite:p:`domeniconi2026refine`.

    .. math:: \frac{3}{\frac{1}{\mathrm{Coh}} + \frac{1}{1 - \mathrm{Com}} + \frac{1}{\mathrm{R}}}, \qquad
        \mathrm{R} = \max(0, \mathrm{gap})

    ARCC replaces the drop of :func:`adcc` by the gap between two curves of ROAD: the mean probability of the class while the
    weakest positions are imputed, less that while the strongest are. Higher is better. The score is 0, the limit, where a
    part is 0, so also for a map whose strongest positions matter less than its weakest; NaN where a part is NaN. The formula
    is that of the implementation by the paper's first author.

    Args:
        gaps (Tensor): (N,), the difference of the means of two :func:`road_curve` with ``accuracy=False``, that of the
            negative maps less that of the maps.
        coherencies (Tensor): (N,), from :func:`coherency`.
        complexities (Tensor): (N,), from :func:`map_complexity`.

    Returns:
        Tensor: (N,), in [0, 1]. Cost: no forward beyond those of the parts.

    Raises:
        ValueError: if the parts are not (N,), or coherencies or complexities are not in [0, 1].
    """
    return adcc(1 - gaps.clamp(0, 1), coherencies, complexities)


def adcc_of_means(drops: Tensor, coherencies: Tensor, complexities: Tensor) -> Tensor:
    """Compute the ADCC of a data set as papers report it :cite:p:`poppi2021adcc`, from the means; higher is better.

    It is never below the mean of the samples' own values, because the harmonic mean is concave. The means are over the
    samples for which all three parts are defined: report their number.

    Args:
        drops (Tensor): (N,), from :func:`average_drop`.
        coherencies (Tensor): (N,), from :func:`coherency`.
        complexities (Tensor): (N,), from :func:`map_complexity`.

    Returns:
        Tensor: a scalar in [0, 1]; NaN if no sample has all three parts. Cost: no forward beyond those of the parts.

    Raises:
        ValueError: if the parts are not (N,), or not in [0, 1].
    """
    _refuse_other_fractions(drops=drops, coherencies=coherencies, complexities=complexities)
    # The sum is NaN if any part is: all three means are over the same samples. The mean of no sample is NaN.
    whole = ~(drops + coherencies + complexities).isnan()
    means = (part[whole].mean()[None] for part in (drops, coherencies, complexities))
    return adcc(*means)[0]


def _refuse_other_fractions(**parts: Tensor) -> None:
    """Raise ValueError unless the parts are (N,), of one N, and in [0, 1] or NaN."""
    count = next(iter(parts.values())).numel()
    for name, values in parts.items():
        if values.shape != (count,):
            shapes = ", ".join(f"{other} {tuple(each.shape)}" for other, each in parts.items())
            raise ValueError(f"expected (N,), one value per sample; got {shown(shapes)}.")
        # Comparisons with NaN are False, so that undefined scores are accepted.
        if ((values < 0) | (values > 1)).any():
            worst = values[(values < 0) | (values > 1)][0].item()
            raise ValueError(f"{named(name)} must be fractions in [0, 1], not percentages; got {worst:g}.")
