"""What is done to an image before a model sees it, in training and afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from torchvision.transforms import v2

__all__ = ["make_transforms"]


def make_transforms(
    size: int,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    vertical_flips: bool = False,
) -> tuple[v2.Compose, v2.Compose]:
    """Transforms for images (3, H, W) in [0, 1]: a mild augmentation to train with, and none to validate with.

    In training: a crop of 70 to 100 % of the area with an aspect ratio between 4:5 and 5:4, flipped left to right in half
    of the cases, brightness and contrast changed by up to 20 %, saturation by up to 10 % and hue by up to 2 %. In
    validation: the whole image. Both end as squares of ``size`` pixels, normalised.

    Args:
        size (int): side in pixels.
        mean (sequence of float): subtracted from each channel. Default: 0
        std (sequence of float): each channel is divided by it afterwards. Default: 1
        vertical_flips (bool): flip upside down, too, where it makes no difference to the class. Default: False

    Returns:
        tuple of torchvision.transforms.v2.Compose: for training and for validation.

    Example::

        >>> augmented, plain = make_transforms(512)
        >>> data = LabelledImages.from_folders("images", transform=augmented)
    """
    normalise = v2.Normalize(list(mean), list(std))
    augmented = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.8, 1.25), antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.RandomVerticalFlip()] if vertical_flips else []),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.1, hue=0.02),
            normalise,
        ]
    )
    return augmented, v2.Compose([v2.Resize((size, size), antialias=True), normalise])
