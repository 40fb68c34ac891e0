"""Perturbation curves: the confidence of the model while patches are removed or inserted in the order of the map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam._scores import Scores
from captum_softcam.metrics.functional._answers import probabilities_of
from captum_softcam.metrics.functional._edges import nan_if_flat, usable_maps
from captum_softcam.metrics.functional._grid import expand_patches, grid, patch_means, ranks
from captum_softcam.metrics.functional.baselines import Baseline, as_baseline, replace_removed

__all__ = [
    "area_under_curve",
    "deletion_curve",
    "insertion_curve",
    "monotonicity",
    "region_perturbation",
    "region_perturbation_curve",
    "step_fractions",
]


def deletion_curve(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | Sequence[int] | None = 16,
    steps: int = 16,
    scores: Scores = "softmax",
) -> Tensor:
    """Compute the probability of the class while patches are removed, the strongest first :cite:p:`petsiuk2018rise`.

    The image is cut into ``patches`` per side. A fraction of ``1 / steps`` of them is replaced by the baseline at a time, in
    the order of the map's mean over the patch (equal ones from the top left). The curve of a good map falls early: for its
    :func:`area_under_curve`, lower is better.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`.
        patches (int or sequence of int): per side, or along each dimension; None for single positions. Default: 16
        steps (int): number of steps from the whole image to none of it. Default: 16
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N, steps + 1), probabilities, the untouched image first; NaN for maps that rank nothing.
        Cost: ``steps + 1`` forwards.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            there is not a single step, or the scores are not (N, K).
    """
    replaced = _replaced(math.prod(grid(maps.shape[2:], patches)), steps)
    return _curve(forward_func, images, maps, targets, baseline, patches, replaced, inserted=False, scores=scores)


def insertion_curve(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | Sequence[int] | None = 16,
    steps: int = 16,
    scores: Scores = "softmax",
) -> Tensor:
    """Compute the probability of the class while patches are inserted, the strongest first :cite:p:`petsiuk2018rise`.

    The counterpart of :func:`deletion_curve`, which begins at the baseline. The curve of a good map rises early: for its
    :func:`area_under_curve`, higher is better.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): image before anything is inserted, (N, C, ...) or broadcastable to it, the name
            of one, or a function of images and removed positions, see :func:`as_baseline`.
        patches (int or sequence of int): per side, or along each dimension; None for single positions. Default: 16
        steps (int): number of steps from none of the image to all of it. Default: 16
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N, steps + 1), probabilities, the untouched image last; NaN for maps that rank nothing.
        Cost: ``steps + 1`` forwards.

    Raises:
        ValueError: as :func:`deletion_curve` does.
    """
    replaced = _replaced(math.prod(grid(maps.shape[2:], patches)), steps)
    return _curve(forward_func, images, maps, targets, baseline, patches, replaced, inserted=True, scores=scores)


def monotonicity(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | Sequence[int] | None = 8,
    steps: int = 16,
    tolerance: float = 1e-4,
    scores: Scores = "softmax",
) -> Tensor:
    """Compute the fraction of steps at which the probability does not fall while patches are inserted, the weakest first.

    From :cite:t:`arya2019explanation`, who test whether it never falls, a score of 1 here. Higher is better. This is a weak
    test: any order passes if nothing in the image lowers the score of the class, and negative relevance, which comes first,
    rightly lets the probability fall. (Quantus replaces the baseline by the baseline and always returns True.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): image before anything is inserted, (N, C, ...) or broadcastable to it, the name
            of one, or a function of images and removed positions, see :func:`as_baseline`.
        patches (int or sequence of int): per side, or along each dimension; None for single positions. Default: 8
        steps (int): number of steps from none of the image to all of it. Default: 16
        tolerance (float): a fall by this fraction of the probability is ignored, because rounding differs between batch
            sizes. Default: 1e-4
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing. Cost: ``steps + 1`` forwards.

    Raises:
        ValueError: as :func:`insertion_curve` does.
    """
    maps = usable_maps(images, maps)  # as floats, because the negative of an unsigned integer wraps around
    curves = insertion_curve(forward_func, images, -maps, targets, baseline, patches=patches, steps=steps, scores=scores)
    # A comparison with NaN is False, which would count as a fall: NaN is restored below.
    kept = curves[:, 1:] >= curves[:, :-1] - tolerance * curves[:, :-1].abs()  # the outputs of a regression may be negative
    return kept.to(curves.dtype).mean(1).masked_fill(curves.isnan().any(1), math.nan)


def region_perturbation(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | Sequence[int] | None = 8,
    regions_evaluation: int = 32,
    scores: Scores = "softmax",
) -> Tensor:
    r"""Compute the mean drop of the probability while the strongest patches are removed :cite:p:`samek2017evaluating`.

    .. math:: \frac{1}{L + 1} \sum_{k = 0}^{L} \left( p(x) - p(x_{\setminus k}) \right)

    with the probability :math:`p` of the class and the image :math:`x_{\setminus k}` without its *k* strongest patches, the
    untouched image included. Higher is better.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`.
        patches (int or sequence of int): per side, or along each dimension; None for single positions. Default: 8
        regions_evaluation (int): number of patches that are removed, one at a time, *L*. Default: 32
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N,), in (-1, 1); NaN for maps that rank nothing. Cost: ``regions_evaluation + 1`` forwards.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            ``regions_evaluation`` is not a number of patches, or the scores are not (N, K).
    """
    drops = region_perturbation_curve(
        forward_func,
        images,
        maps,
        targets,
        baseline,
        patches=patches,
        regions_evaluation=regions_evaluation,
        scores=scores,
    )
    return drops.mean(1)


def region_perturbation_curve(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | Sequence[int] | None = 8,
    regions_evaluation: int = 32,
    scores: Scores = "softmax",
) -> Tensor:
    """Compute the drops of the probability while the strongest patches are removed :cite:p:`samek2017evaluating`.

    Their mean is the :func:`region_perturbation`. Higher is better.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, see :func:`as_baseline`.
        patches (int or sequence of int): per side, or along each dimension; None for single positions. Default: 8
        regions_evaluation (int): number of patches that are removed, one at a time, *L*. Default: 32
        scores (str or callable): how the outputs become probabilities, see :func:`as_scores`. Default: ``"softmax"``

    Returns:
        Tensor: (N, regions_evaluation + 1), the drop of the untouched image, 0, first; NaN for maps that rank nothing.
        Cost: ``regions_evaluation + 1`` forwards.

    Raises:
        ValueError: as :func:`region_perturbation` does.
    """
    counts = grid(maps.shape[2:], patches)
    if not 1 <= regions_evaluation <= math.prod(counts):
        raise ValueError(
            f"regions_evaluation must be from 1 to the number of patches, {math.prod(counts)}; "
            f"got {quoted(regions_evaluation)}."
        )
    replaced = range(regions_evaluation + 1)
    curves = _curve(forward_func, images, maps, targets, baseline, patches, replaced, inserted=False, scores=scores)
    return curves[:, :1] - curves


def step_fractions(size: Sequence[int], *, patches: int | Sequence[int] | None = 16, steps: int = 16) -> Tensor:
    """Return the fraction of the patches that is replaced at each point of a curve.

    Args:
        size (sequence of int): of the images, (H, W).
        patches (int or sequence of int): as for the curve. Default: 16
        steps (int): as for the curve. Default: 16

    Returns:
        Tensor: (steps + 1,) from 0 to 1, evenly spaced if the number of steps divides the number of patches.

    Raises:
        ValueError: if a side has fewer positions than patches, or there is not a single step.
    """
    total = math.prod(grid(size, patches))
    return torch.tensor(_replaced(total, steps), dtype=torch.get_default_dtype()) / total


def area_under_curve(curves: Tensor, fractions: Tensor | None = None) -> Tensor:
    """Compute the area under curves over the fraction from 0 to 1 by the trapezoid rule.

    Args:
        curves (Tensor): (N, steps + 1).
        fractions (Tensor): (steps + 1,), from :func:`step_fractions`. Default: evenly spaced

    Returns:
        Tensor: (N,).

    Raises:
        ValueError: if the curves are not (N, points) of two points or more, or there is not one fraction for each of them.
    """
    if curves.dim() != 2 or curves.shape[1] < 2:
        raise ValueError(f"curves are {tuple(curves.shape)}; expected (N, steps + 1), with one step at least.")
    if fractions is None:
        return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)
    if fractions.shape != curves.shape[1:]:
        raise ValueError(f"fractions are {tuple(fractions.shape)}; expected {tuple(curves.shape[1:])}, one for each point.")
    return torch.trapezoid(curves, fractions.to(curves), dim=1)


def _curve(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    patches: int | Sequence[int] | None,
    replaced: Sequence[int],
    inserted: bool,
    scores: Scores,
) -> Tensor:
    """Compute the probability of the class with each of these numbers of patches replaced, (N, len(replaced))."""
    maps, size = usable_maps(images, maps), maps.shape[2:]
    # Means, because sums would favour the larger patches where the sizes differ by one position.
    places = ranks(patch_means(maps, grid(size, patches)))
    replacement = as_baseline(baseline, images, patches=patches)
    # Generators, because all versions of a batch of images at once would not fit into memory.
    touched = (expand_patches(places < number, size) for number in replaced)
    shown = (replace_removed(images, each != inserted, replacement) for each in touched)
    return nan_if_flat(probabilities_of(forward_func, images, shown, targets, scores), maps)


def _replaced(patches: int, steps: int) -> list[int]:
    """Return the number of replaced patches at each point."""
    if steps < 1:
        raise ValueError(f"steps must be >= 1; got {quoted(steps)}.")
    # Each number is rounded on its own, so that rounding errors do not add up and the last point replaces all patches.
    return [round(step * patches / steps) for step in range(steps + 1)]
