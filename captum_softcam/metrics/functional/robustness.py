"""Robustness: whether a map stays alike where the image does, and moves where the image moves.

The versions of the images are made by :func:`noisy_images` and :func:`translated_images`, and their maps by the caller, for
the class of the image. A map that ignores the image is as robust as can be: read these scores beside those of a faithfulness
metric and of the controls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam.metrics.functional._distance import followed, refuse_other_versions, relative_distances
from captum_softcam.metrics.functional._edges import nan_if_flat, wide

__all__ = [
    "avg_sensitivity",
    "continuity",
    "local_lipschitz_estimate",
    "max_sensitivity",
    "noisy_images",
    "relative_input_stability",
    "shift_offsets",
    "translated_images",
]


def noisy_images(images: Tensor, *, runs: int = 8, radius: float = 0.2, seed: int = 0) -> Tensor:
    r"""Add uniform noise of growing size to images.

    .. math:: x_r = x + \frac{r}{R}\, \rho\, \sigma\, u_r, \qquad r = 1, \dots, R

    with the radius :math:`\rho`, noise :math:`u_r` in [-1, 1] that is the same for every image, and the standard deviation
    :math:`\sigma` of each channel of the image over its positions, so that a radius means the same for images in [0, 1], in
    [0, 255] and normalised ones, and a channel that is constant remains so. (Quantus adds noise in units of the input, of
    0.2 for all models, draws it anew for each method, and other noise for each sample of a batch.)

    Args:
        images (Tensor): (N, C, ...).
        runs (int): number of versions, *R*. Default: 8
        radius (float): size of the strongest noise, in standard deviations of the image. Default: 0.2
        seed (int): of the noise. Default: 0

    Returns:
        Tensor: (N, R, C, ...). Cost: no forward.

    Raises:
        ValueError: if there is not a single run or the radius is not positive.
    """
    if runs < 1:
        raise ValueError(f"runs must be >= 1; got {quoted(runs)}.")
    if not radius > 0:
        raise ValueError(f"radius must be > 0; got {quoted(radius)}.")
    # NumPy's generator, because the numbers of PyTorch's differ between devices.
    draw = np.random.default_rng(seed).uniform(-1, 1, (runs, *images.shape[1:]))
    noise = torch.from_numpy(draw).to(images)
    sizes = torch.arange(1, runs + 1).to(images) * (radius / runs)
    noise = noise * sizes.view(-1, *[1] * (images.dim() - 1))
    return images[:, None] + _spread(images)[:, None] * noise


def max_sensitivity(maps: Tensor, noisy_maps: Tensor) -> Tensor:
    r"""Compute the largest change of the map under noise :cite:p:`yeh2019infidelity`; lower is better.

    .. math:: \max_r \frac{\lVert A(x_r) - A(x) \rVert}{\lVert A(x) \rVert}

    with the map :math:`A(x)` of the image and those of its noisy versions, for the same class. The change is divided by the
    norm of the map, as in Captum and Quantus, because methods have units of their own: 0 for a map that stays as it is,
    about 1.4 for one that has nothing in common with itself. A map of a large constant changes little.

    Args:
        maps (Tensor): (N, 1, ...).
        noisy_maps (Tensor): the maps of the :func:`noisy_images`, (N, R, ...).

    Returns:
        Tensor: (N,), >= 0; NaN for maps that rank nothing. Cost: R maps by the caller.

    Raises:
        ValueError: if the maps are not (N, 1, ...), or the others not (N, R, ...) of their size.
    """
    refuse_other_versions(maps, noisy_maps=noisy_maps)
    return nan_if_flat(relative_distances(maps, noisy_maps).amax(1), maps)


def avg_sensitivity(maps: Tensor, noisy_maps: Tensor) -> Tensor:
    r"""Compute the mean change of the map under noise :cite:p:`yeh2019infidelity,bhatt2020evaluating`; lower is better.

    .. math:: \frac{1}{R} \sum_r \frac{\lVert A(x_r) - A(x) \rVert}{\lVert A(x) \rVert}

    The mean in place of the largest change of :func:`max_sensitivity`.

    Args:
        maps (Tensor): (N, 1, ...).
        noisy_maps (Tensor): the maps of the :func:`noisy_images`, (N, R, ...).

    Returns:
        Tensor: (N,), >= 0; NaN for maps that rank nothing. Cost: R maps by the caller.

    Raises:
        ValueError: as :func:`max_sensitivity` does.
    """
    refuse_other_versions(maps, noisy_maps=noisy_maps)
    return nan_if_flat(relative_distances(maps, noisy_maps).mean(1), maps)


def local_lipschitz_estimate(maps: Tensor, noisy_maps: Tensor, images: Tensor, versions: Tensor) -> Tensor:
    r"""Compute the largest ratio of the change of the map to that of the image :cite:p:`alvarez2018robustness`.

    .. math:: \max_r \frac{\lVert A(x_r) - A(x) \rVert / \lVert A(x) \rVert}{\mathrm{rms}((x_r - x) / \sigma)}

    with the root mean square over all values and the standard deviation :math:`\sigma` of each channel of the image. Lower
    is better; at 1, noise of a tenth of the image's contrast changes the map by a tenth of its norm. Because the noise
    grows from run to run, a map that jumps at the weakest noise has a high score, which :func:`max_sensitivity` does not
    notice. Departure from the paper: both changes are relative, so that neither the units of the method nor the
    normalisation of the images matters. (Quantus divides absolute changes: a map that is multiplied by 2 has twice the
    score.)

    Args:
        maps (Tensor): (N, 1, ...).
        noisy_maps (Tensor): the maps of the noisy versions, (N, R, ...).
        images (Tensor): (N, C, ...).
        versions (Tensor): the :func:`noisy_images`, (N, R, C, ...).

    Returns:
        Tensor: (N,), >= 0; NaN for maps that rank nothing and images that are constant. Cost: R maps by the caller.

    Raises:
        ValueError: as :func:`max_sensitivity` does.
    """
    refuse_other_versions(maps, noisy_maps=noisy_maps)
    ratios = relative_distances(maps, noisy_maps) / _image_changes(images, versions)
    return nan_if_flat(ratios.amax(1), maps)


def relative_input_stability(
    maps: Tensor, noisy_maps: Tensor, images: Tensor, versions: Tensor, same_predictions: Tensor
) -> Tensor:
    r"""Compute the largest ratio of relative changes while the prediction holds :cite:p:`agarwal2022rethinking`.

    .. math:: \max_{r:\, \hat y(x_r) = \hat y(x)}
        \frac{\mathrm{rms}\bigl( (A(x_r) - A(x)) / \max(|A(x)|, \bar a) \bigr)}{\mathrm{rms}((x_r - x) / \sigma)}

    with the mean magnitude :math:`\bar a` of the map, the standard deviation :math:`\sigma` of each channel of the image and
    the prediction :math:`\hat y`. Lower is better. Unlike the :func:`local_lipschitz_estimate`, it measures the change of
    each value against that value, so that weak relevance counts as well as strong, and leaves out noise that changes the
    prediction, where the map has a reason to change.

    Departures from the paper, which divides each value of map and image by itself: values of a map below its mean magnitude
    are divided by the mean, or the score would be that of the positions where a map is all but 0; images are measured in
    their standard deviations, because the 0 of a normalised image is an arbitrary grey. Means in place of sums make the
    score independent of the numbers of channels and positions. (Quantus divides by 1e-6 where a map is 0, and a single
    version that changes the prediction makes the whole score NaN, while the paper leaves out that version.)

    Args:
        maps (Tensor): (N, 1, ...).
        noisy_maps (Tensor): the maps of the noisy versions, (N, R, ...).
        images (Tensor): (N, C, ...).
        versions (Tensor): the :func:`noisy_images`, (N, R, C, ...).
        same_predictions (Tensor): whether the model predicts the same for a version as for the image, (N, R) bool.

    Returns:
        Tensor: (N,), >= 0; NaN for maps that rank nothing, images that are constant, and where no prediction holds.
        Cost: R maps and R forwards by the caller.

    Raises:
        ValueError: as :func:`max_sensitivity` does.
    """
    refuse_other_versions(maps, noisy_maps=noisy_maps)
    own = wide(maps).flatten(2)
    units = torch.maximum(own.abs(), own.abs().mean(2, keepdim=True))
    changes = ((wide(noisy_maps).flatten(2) - own) / units).square().mean(2).sqrt()
    ratios = (changes / _image_changes(images, versions)).masked_fill(~same_predictions, -math.inf)
    highest = ratios.amax(1)
    return nan_if_flat(highest.masked_fill(highest == -math.inf, math.nan), maps)


def shift_offsets(size: Sequence[int], shifts: Sequence[float]) -> list[tuple[int, ...]]:
    """Return the positions by which images are shifted along each dimension.

    Args:
        size (sequence of int): of the images, (H, W).
        shifts (sequence of float): fractions of each side, between -1 and 1; negative ones move to the upper left.

    Returns:
        list of tuple of int: for each shift its offsets: at least one position along each side that has two.

    Raises:
        ValueError: if there is no shift, or one is 0 or not between -1 and 1.
    """
    if not len(shifts):
        raise ValueError("shifts are empty; pass at least one fraction of the side.")
    for shift in shifts:
        if not 0 < abs(shift) < 1:
            raise ValueError(f"shifts are fractions of the side between -1 and 1 other than 0; got {quoted(shift)}.")

    def offset(side: int, shift: float) -> int:
        return int(math.copysign(min(side - 1, max(1, round(abs(shift) * side))), shift))

    return [tuple(offset(side, shift) for side in size) for shift in shifts]


def translated_images(images: Tensor, offsets: Sequence[int]) -> Tensor:
    """Translate images along all dimensions; what enters at a border is the mirrored image.

    Args:
        images (Tensor): (N, C, ...).
        offsets (sequence of int): by how many positions along each dimension, fewer than the image has.

    Returns:
        Tensor: (N, C, ...). Cost: no forward.
    """
    for dim, offset in enumerate(offsets, start=2):
        last = images.shape[dim] - 1
        places = (torch.arange(last + 1, device=images.device) - offset).abs()
        images = images.index_select(dim, last - (last - places).abs())
    return images


def continuity(maps: Tensor, shifted_maps: Tensor, offsets: Sequence[Sequence[int]]) -> Tensor:
    r"""Compute how far the map moves along when the image is translated :cite:p:`montavon2018methods`; higher is better.

    .. math:: \frac{1}{S} \sum_s
        \frac{\lVert A(x_s) - A(x) \rVert}{\lVert A(x_s) - A(x) \rVert + \lVert A(x_s) - A(x)_s \rVert}

    with the image :math:`x_s` and the map :math:`A(x)_s` shifted by *s*, and norms over the positions that both have. 1 for
    a map that moves with the image, 0 for one that stays in place whatever the image shows, 1/2 for one that does neither.

    The paper asks for small changes under small translations, and Quantus divides the change of the map, which it does not
    shift back, by that of the image, so that its best map does not move when the object does. Quantus also translates the
    image, with black entering, until nothing of it is left, and returns the maximum in the units of the method.

    Args:
        maps (Tensor): (N, 1, ...).
        shifted_maps (Tensor): the maps of the :func:`translated_images`, one for each shift, (N, S, ...).
        offsets (sequence of sequence of int): the shifts, from :func:`shift_offsets`.

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing, and those that equal their translation.
        Cost: S maps by the caller.

    Raises:
        ValueError: if the maps are not (N, 1, ...), or the others not (N, S, ...) of their size, one for each shift.
    """
    refuse_other_versions(maps, shifted_maps=shifted_maps)
    if shifted_maps.shape[1] != len(offsets):
        raise ValueError(
            f"shifted_maps are {shifted_maps.shape[1]} of each sample for {len(offsets)} shifts; expected one each."
        )
    found = []
    for moved, offset in zip(shifted_maps.unbind(1), offsets, strict=True):
        before, after = maps[:, 0], moved
        stayed = maps[:, 0]
        for dim, by in enumerate(offset, start=1):
            kept = maps.shape[dim + 1] - abs(by)
            before = before.narrow(dim, max(0, -by), kept)
            after, stayed = (each.narrow(dim, max(0, by), kept) for each in (after, stayed))
        found.append(followed(after.flatten(1), before.flatten(1), stayed.flatten(1)))
    return nan_if_flat(torch.stack(found, 1).nanmean(1), maps)


def _spread(images: Tensor) -> Tensor:
    """Return the standard deviation of each channel of each image over its positions, (N, C, 1, ...)."""
    values = wide(images).flatten(2)
    spread = values.std(2, unbiased=False)
    # The mean of equal values is rounded.
    spread = spread.masked_fill(spread <= 1e-9 * values.abs().amax(2), 0)
    return spread.view(*spread.shape, *[1] * (images.dim() - 2)).to(images)


def _image_changes(images: Tensor, versions: Tensor) -> Tensor:
    """Return the changes of images (N, C, ...) in standard deviations, root mean squares (N, R); NaN where there is none."""
    spread = wide(_spread(images))[:, None]
    # A constant channel does not change: 0 / 0.
    changes = (wide(versions) - wide(images)[:, None]) / spread
    rms = changes.nan_to_num(nan=0.0).square().flatten(2).mean(2).sqrt()
    return rms.masked_fill(rms == 0, math.nan)
