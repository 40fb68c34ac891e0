"""ROAD: removed positions are imputed from their surroundings, so that the shape of the hole reveals nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam._scores import Scores, as_scores, predicted_classes
from captum_softcam.metrics.functional._answers import of_class, outputs_of
from captum_softcam.metrics.functional._edges import nan_if_flat, refuse_other_images, usable_maps, wide
from captum_softcam.metrics.functional._grid import ranks

__all__ = ["linear_imputation", "noisy_linear_imputation", "road_curve"]

_EXACT = 1e-5  # of the imputed values, far below the noise
_UPSAMPLING = {1: "linear", 2: "bilinear", 3: "trilinear"}
_POOLS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def road_curve(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    fractions: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    accuracy: bool = True,
    noise: float = 0.01,
    seed: int = 0,
    scores: Scores = "softmax",
) -> Tensor:
    """Test whether the class stays predicted while the strongest positions are imputed, ROAD :cite:p:`rong2022road`.

    Remove and debias: the highest positions of the map are removed in all channels (equal ones from the top left) and filled
    by :func:`noisy_linear_imputation`, so that the shape of the hole does not reveal the class. Lower is better. (The class
    of Quantus fails on images of more than one channel, and reports the first batch only.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        fractions (sequence of float): of the positions that are removed. Default: 0.1, 0.2, ... 0.9
        accuracy (bool): return 1 where the class stays predicted, else 0, as in the paper: where it has the highest score,
            and with ``scores="sigmoid"`` where its probability is above 0.5. A model with one output has no prediction under
            ``"identity"`` or a function. False to return the probability of the class. Default: True
        noise (float): standard deviation of the noise, in units of the images. Default: 0.01
        seed (int): of the noise. Default: 0
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N, len(fractions)); NaN for maps that rank nothing. Cost: one forward for each fraction, and the imputation.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a fraction is not between 0 and 1,
            there is none, the outputs are not (N, K), or a model of one output that is no logit is asked for the accuracy.
    """
    maps = usable_maps(images, maps)
    if not len(fractions) or not all(0 < fraction < 1 for fraction in fractions):
        raise ValueError(f"fractions must lie between 0 and 1; pass at least one. Got {quoted(tuple(fractions))}.")
    places, total = ranks(maps), maps[0].numel()
    # One position always stays, because there would be nothing to impute from.
    removed = (places < min(round(fraction * total), total - 1) for fraction in fractions)
    imputed = (noisy_linear_imputation(images, each, noise=noise, seed=seed) for each in removed)
    tables = outputs_of(forward_func, images, imputed, targets, scores)
    read = stays_predicted if accuracy else _probability
    return nan_if_flat(torch.stack([read(table, targets, scores) for table in tables], 1), maps)


def stays_predicted(outputs: Tensor, targets: Tensor, scores: Scores) -> Tensor:
    """Return 1 where the class is predicted from outputs (N, K), else 0, and NaN where its score is; see :func:`road_curve`.

    Raises:
        ValueError: for a model of one output, unless it is a logit.
    """
    own = _probability(outputs, targets, scores)
    if scores != "sigmoid" and outputs.shape[1] == 1:
        raise ValueError(
            "ROAD tests whether the class stays predicted, and a model with one output that is no logit predicts no class; "
            "leave the metric out, or call road_curve with accuracy=False, which reads the output itself."
        )
    if scores == "sigmoid" and outputs.shape[1] > 1:
        kept = own > 0.5  # not argmax: several classes can be present
    else:
        kept = predicted_classes(outputs, scores) == targets.to(outputs.device)
    # The argmax of NaN is a class like any other: without the mask, a broken output would count as an answer.
    return kept.to(outputs.dtype).masked_fill(own.isnan(), torch.nan)


def noisy_linear_imputation(images: Tensor, removed: Tensor, *, noise: float = 0.01, seed: int = 0) -> Tensor:
    r"""Replace removed positions by the weighted mean of their neighbours and a little noise :cite:p:`rong2022road`.

    .. math:: \sum_{q \sim p} w_{pq}\, (\hat x_p - \hat x_q) = 0 \quad \text{for each removed } p

    where :math:`\hat x` equals the image at the positions that are kept, and neighbours :math:`q \sim p` share a side or a
    corner. This is the linear system of the paper, solved for each channel by conjugate gradients, for the whole batch at
    once. The weights are 1 for a side and 1/2 for a corner (1/6 and 1/12 in the paper, where the common factor cancels), and
    1/3 for the corner of a cube, which the paper does not treat.

    Args:
        images (Tensor): (N, C, ...) of one to three dimensions.
        removed (Tensor): (N, 1, ...) bool, True where the image is imputed.
        noise (float): standard deviation of the noise, in units of the images. Default: 0.01
        seed (int): of the noise, the same for every image. Default: 0

    Returns:
        Tensor: (N, C, ...). Cost: no forward.

    Raises:
        ValueError: if ``removed`` is not (N, 1, ...) of the images' number and size, or a whole image is removed.
    """
    refuse_other_images(images, removed)
    if removed.flatten(1).all(1).any():
        raise ValueError("removed is True everywhere in an image; keep at least one position to impute from.")
    values, holes = wide(images), wide(removed)
    filled = _fill(values, holes)
    # Drawn on the CPU, because a GPU draws other numbers from the same seed.
    grain = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)).to(values)
    return torch.where(removed, filled + noise * grain, values).to(images.dtype)


@torch.no_grad()
def linear_imputation(images: Tensor, removed: Tensor, *, cell: int = 1) -> Tensor:
    """Replace removed positions by the weighted mean of their neighbours: :func:`noisy_linear_imputation` without noise.

    An image of which nothing is left has nothing to impute from, and becomes its mean colour. Where whole patches are
    removed, what is imputed is smooth, and can be solved for on a coarser grid: ``cell`` positions per side are averaged, as
    far as they are kept, and the solution is interpolated. With cells of 4 x 4 pixels at 224 x 224 this takes a hundredth of
    the time.

    Args:
        images (Tensor): (N, C, ...) of one to three dimensions.
        removed (Tensor): (N, 1, ...) bool, True where the image is imputed.
        cell (int): positions per side that are imputed as one. Default: 1, as in the paper

    Returns:
        Tensor: (N, C, ...). Cost: no forward.

    Raises:
        ValueError: if ``removed`` is not (N, 1, ...) of the images' number and size.
    """
    refuse_other_images(images, removed)
    d, whole = images.dim() - 2, removed.flatten(1).all(1).view(-1, *[1] * (images.dim() - 1))
    values, kept = wide(images), wide(~removed | whole)
    fractions = _POOLS[d](kept, cell, ceil_mode=True)
    holes = wide(fractions == 0)
    # What is removed must not enter the means, not even as 0 times a value that is not finite.
    means = _POOLS[d](torch.where(kept > 0, values, 0), cell, ceil_mode=True) / (fractions + holes)
    filled = F.interpolate(torch.where(holes > 0, _fill(means, holes), means), scale_factor=cell, mode=_UPSAMPLING[d])
    inside: tuple[slice, ...] = tuple(slice(side) for side in images.shape)  # the last cells may reach beyond the border
    filled = filled[inside]
    filled = torch.where(whole, values.mean(tuple(range(2, d + 2)), keepdim=True), filled)
    return torch.where(removed, filled.to(images.dtype), images)


@torch.no_grad()
def _probability(outputs: Tensor, targets: Tensor, scores: Scores) -> Tensor:
    return of_class(as_scores(outputs, scores), targets)


def _fill(values: Tensor, holes: Tensor) -> Tensor:
    """Solve the linear system in the holes by conjugate gradients; 0 elsewhere."""
    # Conjugate gradients need a symmetric matrix: dividing its rows by the degree would break the symmetry, so that the
    # degree is the preconditioner. It is lower at the border, where positions have fewer neighbours.
    degree = _over_neighbours(torch.ones_like(values[:1, :1]))
    residual = holes * _over_neighbours(values * (1 - holes))
    filled, direction = torch.zeros_like(values), residual / degree
    power = first = _dot(residual, direction)
    # Without rounding, the solution is exact after as many steps as there are unknowns.
    for _ in range(values[0, 0].numel()):
        # Channels that have converged stand still, so that the result does not depend on the rest of the batch.
        far = power > _EXACT**2 * first
        if not far.any():
            break
        pull = (degree * direction).sub_(_over_neighbours(direction)).mul_(holes)
        step = far * power / _above_zero(_dot(direction, pull))
        filled.addcmul_(step, direction)
        residual.addcmul_(step, pull, value=-1)
        conditioned = residual / degree
        before, power = power, _dot(residual, conditioned)
        direction.mul_(power / _above_zero(before)).add_(conditioned)
    return filled


def _over_neighbours(values: Tensor) -> Tensor:
    """Sum over the neighbours of each position, weighted; positions beyond the border count as 0."""
    d = values.dim() - 2
    # The weight of the position itself is 0; max() avoids the division by 0 there.
    weights = [1 / max(1, sum(map(abs, place))) * any(place) for place in itertools.product((-1, 0, 1), repeat=d)]
    kernel = values.new_tensor(weights).view(1, 1, *[3] * d)
    # Each channel becomes an image, because a convolution would add up the channels.
    planes = values.reshape(-1, 1, *values.shape[2:])
    return _CONVOLUTIONS[d](planes, kernel, padding=1).view_as(values)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(tuple(range(2, first.dim())), keepdim=True)


def _above_zero(values: Tensor) -> Tensor:
    # 0 / 0 must be 0: where nothing is removed, the residual and the direction are 0 from the start.
    return values.clamp(min=torch.finfo(values.dtype).tiny)
