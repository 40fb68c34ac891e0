"""How sure is the model of a class, of the image and of what a map leaves of it?"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from captum_softcam.metrics.functional._answers import probabilities_of
from captum_softcam.metrics.functional._edges import activation, nan_if_no_evidence, refuse_other_images, usable_maps

__all__ = ["confidence", "masked_confidence", "masked_images"]


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
