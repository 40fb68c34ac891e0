"""Removal of sets of patches: whether the drop of the logit matches the sum of the map over the set."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam._scores import Scores, class_logits
from captum_softcam.metrics.functional._answers import of_class, outputs_of
from captum_softcam.metrics.functional._correlation import pearson, spearman
from captum_softcam.metrics.functional._edges import nan_if_flat, refuse_other_images, usable_maps, wide
from captum_softcam.metrics.functional._grid import expand_patches, grid, patch_sums
from captum_softcam.metrics.functional.baselines import Baseline, as_baseline, replace_removed

__all__ = [
    "faithfulness_correlation",
    "faithfulness_estimate",
    "infidelity",
    "monotonicity_correlation",
    "sensitivity_n",
    "single_deletion",
]

Similarity: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_ROUNDING = 1e-6  # of the highest logit: rounding differs between batch sizes, and must not rank patches


def faithfulness_correlation(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | None = 8,
    subset_size: int = 16,
    runs: int = 200,
    seed: int = 0,
    scores: Scores = "softmax",
    similarity: Similarity = pearson,
) -> Tensor:
    r"""Compute the correlation of the map over random subsets with the drops of the logit :cite:p:`bhatt2020evaluating`.

    .. math:: \mathrm{pearson}_S \left( \sum_{p \in S} A_p,\; f(x) - f(x_{\setminus S}) \right)

    over random subsets :math:`S` of the patches, with the map's sum :math:`A_p` over a patch, the logit :math:`f` of the
    class and the image :math:`x_{\setminus S}` whose patches in the subset are replaced by the baseline. Higher is better.
    The subsets are the same for every sample. (Quantus draws others for each sample of a batch, so that a score depends on
    the batch.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`.
        patches (int): per side; None for single positions, all channels together. Default: 8
        subset_size (int): number of patches in a subset. Default: 16
        runs (int): number of subsets; with fewer than a few hundred the score is noise. Default: 200
        seed (int): of the subsets. Default: 0
        scores (str or callable): as for the other metrics, see :func:`as_scores`. This one reads the outputs before they
            become scores; with ``"sigmoid"`` and a single logit, class 0 has its negative. Default: ``"softmax"``
        similarity (callable): of the map's sums and the drops, both (N, M) -> (N,). Default: the Pearson correlation

    Returns:
        Tensor: (N,), in [-1, 1]; NaN for maps that rank nothing, and where the logit never moves. Cost: ``runs + 1``
        forwards.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            the subsets contain no patch or all of them, there are fewer than two runs, or the scores are not (N, K).
    """
    maps = usable_maps(images, maps)
    subsets = _random_subsets(grid(maps.shape[2:], patches), subset_size, runs, seed)
    sums, drops = _removals(forward_func, images, maps, targets, baseline, patches, subsets, scores)
    return nan_if_flat(similarity(sums, drops), maps)


def faithfulness_estimate(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | None = 8,
    scores: Scores = "softmax",
    similarity: Similarity = pearson,
) -> Tensor:
    r"""Compute the correlation of the map over single patches with the drops of the logit :cite:p:`alvarez2018towards`.

    .. math:: \mathrm{pearson}_p \left( A_p,\; f(x) - f(x_{\setminus p}) \right)

    over all patches, with the map's sum :math:`A_p` over a patch and the logit :math:`f` of the class. Higher is better. The
    logit is read because a probability close to 1 barely moves.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`.
        patches (int): per side; None for single positions, all channels together. Default: 8
        scores (str or callable): as for the other metrics, see :func:`as_scores`. This one reads the outputs before they
            become scores; with ``"sigmoid"`` and a single logit, class 0 has its negative. Default: ``"softmax"``
        similarity (callable): of the map's sums and the drops, both (N, M) -> (N,). Default: the Pearson correlation

    Returns:
        Tensor: (N,), in [-1, 1]; NaN for maps that rank nothing, and where the logit never moves. Cost: one forward, and one
        for each patch.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            or the scores are not (N, K).
    """
    maps = usable_maps(images, maps)
    subsets = _single_patches(grid(maps.shape[2:], patches))
    sums, drops = _removals(forward_func, images, maps, targets, baseline, patches, subsets, scores)
    return nan_if_flat(similarity(sums, drops), maps)


def single_deletion(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | Sequence[int] | None = 4,
    scores: Scores = "softmax",
) -> Tensor:
    r"""Compute the rank correlation of the map over single patches with the drops of the logit :cite:p:`hesse2024idsds`.

    .. math:: \mathrm{spearman}_p \left( A_p,\; f(x) - f(x_{\setminus p}) \right)

    over all patches, with the map's sum :math:`A_p` over a patch and the logit :math:`f` of the class. Higher is better. It
    is the :func:`faithfulness_estimate` of ranks. The paper has 4 x 4 patches that are set to 0, and a model that was
    fine-tuned with one patch set to 0 in half of its images. On such a model this is the in-domain single deletion score; on
    any other, a patch of zeros may be unlike anything that the model has seen.

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`.
        patches (int or sequence of int): per side, or along each dimension; None for single positions. Default: 4
        scores (str or callable): as for the other metrics, see :func:`as_scores`. This one reads the outputs before they
            become scores; with ``"sigmoid"`` and a single logit, class 0 has its negative. Default: ``"softmax"``

    Returns:
        Tensor: (N,), in [-1, 1]; NaN for maps that rank nothing, and where the logit never moves. Cost: one forward, and one
        for each patch.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            or the scores are not (N, K).
    """
    maps = usable_maps(images, maps)
    subsets = _single_patches(grid(maps.shape[2:], patches))
    sums, drops = _removals(forward_func, images, maps, targets, baseline, patches, subsets, scores)
    return nan_if_flat(spearman(sums, drops), maps)


def sensitivity_n(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | None = 8,
    sizes: Sequence[int] = (1, 4, 16, 48),
    runs: int = 50,
    seed: int = 0,
    scores: Scores = "softmax",
    similarity: Similarity = pearson,
) -> Tensor:
    """Average the :func:`faithfulness_correlation` over several sizes of the subsets :cite:p:`ancona2018towards`.

    Higher is better. The paper plots the correlation against *n*, from one feature to four fifths of them. (Quantus removes
    the strongest features instead of random ones, correlates over the samples of a batch, and reports the first batch only.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`.
        patches (int): per side; None for single positions, all channels together. Default: 8
        sizes (sequence of int): numbers of patches in a subset, *n*. Default: (1, 4, 16, 48)
        runs (int): number of subsets of each size. Default: 50
        seed (int): of the subsets. Default: 0
        scores (str or callable): as for the other metrics, see :func:`as_scores`. This one reads the outputs before they
            become scores; with ``"sigmoid"`` and a single logit, class 0 has its negative. Default: ``"softmax"``
        similarity (callable): of the map's sums and the drops, both (N, M) -> (N,). Default: the Pearson correlation

    Returns:
        Tensor: (N,), in [-1, 1]; NaN for maps that rank nothing, and where the logit does not move at one of the sizes.
        Cost: ``len(sizes) * (runs + 1)`` forwards.

    Raises:
        ValueError: as :func:`faithfulness_correlation` does, and if there is no size.
    """
    if not len(sizes):
        raise ValueError("sizes are empty; pass at least one size of the subsets.")
    game = (forward_func, images, maps, targets, baseline)
    # The same seed for all sizes: a PatchGame remembers the scores of subsets that another metric has drawn.
    settings: dict[str, Any] = {"patches": patches, "runs": runs, "seed": seed, "scores": scores, "similarity": similarity}
    return torch.stack([faithfulness_correlation(*game, subset_size=n, **settings) for n in sizes]).mean(0)


def infidelity(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | None = 8,
    sides: Sequence[int] = (1, 2, 4),
    scaled: bool = True,
    scores: Scores = "softmax",
) -> Tensor:
    r"""Compute the squared error between the map and the drop of the logit without squares :cite:p:`yeh2019infidelity`.

    .. math:: \frac{1}{|\mathcal{S}|} \sum_{S \in \mathcal{S}}
        \left( \beta \sum_{p \in S} A_p - \left(f(x) - f(x_{\setminus S})\right) \right)^2

    with the map's sum :math:`A_p` over a patch and the logit :math:`f` of the class; lower is better, in squared logits.
    All squares of the given sides on the grid of patches are removed, so that nothing is random. Maps have units of their
    own: :math:`\beta \ge 0` is the factor that fits the map best; a map that is worse than an empty one scores like it,
    :math:`\beta = 0`. (Quantus does not restore the image before it removes the next square.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`.
        patches (int): per side; None for single positions, all channels together. Default: 8
        sides (sequence of int): of the squares, in patches. Default: (1, 2, 4)
        scaled (bool): False to use the map in its own units, :math:`\beta = 1`. Default: True
        scores (str or callable): as for the other metrics, see :func:`as_scores`. This one reads the outputs before they
            become scores; with ``"sigmoid"`` and a single logit, class 0 has its negative. Default: ``"softmax"``

    Returns:
        Tensor: (N,), >= 0; NaN for maps that rank nothing. Cost: one forward, and one for each square: 138 for the sides 1,
        2 and 4 on 8 x 8 patches.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            a square does not fit, there is no side, or the scores are not (N, K).
    """
    if not len(sides):
        raise ValueError("sides are empty; pass at least one side of the squares.")
    maps = usable_maps(images, maps)
    subsets = _squares(grid(maps.shape[2:], patches), sides)
    sums, drops = _removals(forward_func, images, maps, targets, baseline, patches, subsets, scores)
    if scaled:  # least squares; a negative factor would turn a wrong map into a right one
        size = sums.square().sum(1)
        fits = torch.where(size == 0, 0, (sums * drops).sum(1) / size)  # a map of equal parts for and against in each patch
        sums = sums * fits.clamp(min=0)[:, None]
    return nan_if_flat((sums - drops).square().mean(1), maps)


def monotonicity_correlation(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    *,
    patches: int | None = 8,
    scores: Scores = "softmax",
    similarity: Similarity = spearman,
) -> Tensor:
    r"""Compute the rank correlation of magnitudes of patches and changes of the logit :cite:p:`nguyen2020quantitative`.

    .. math:: \mathrm{spearman}_p \left( |A_p|,\; \left(f(x) - f(x_{\setminus p})\right)^2 \right)

    over all patches, with the map's sum :math:`A_p` over a patch and the logit :math:`f` of the class; higher is better. It
    reads magnitudes: relevance for and against the class counts alike. Departure from the paper, which averages over several
    contents of the patch: here it is the baseline. (Quantus weighs the changes by the square of the inverse score, the same
    for all of them, and raises an error if the score of one sample is below 1e-5.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor, str or callable): replacement of the images, (N, C, ...) or broadcastable to it, a name, or a
            function of images and removed positions, see :func:`as_baseline`.
        patches (int): per side; None for single positions, all channels together. Default: 8
        scores (str or callable): as for the other metrics, see :func:`as_scores`. This one reads the outputs before they
            become scores; with ``"sigmoid"`` and a single logit, class 0 has its negative. Default: ``"softmax"``
        similarity (callable): of the magnitudes of the map's sums and of the changes, both (N, M) -> (N,). Default: the
            Spearman correlation

    Returns:
        Tensor: (N,), in [-1, 1]; NaN for maps that rank nothing or whose magnitudes are equal, and where the logit never
        moves. Cost: one forward, and one for each patch.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            or the scores are not (N, K).
    """
    maps = usable_maps(images, maps)
    subsets = _single_patches(grid(maps.shape[2:], patches))
    sums, drops = _removals(forward_func, images, maps, targets, baseline, patches, subsets, scores)
    # Magnitudes have the same ranks as the squares of the formula.
    return nan_if_flat(similarity(sums.abs(), drops.abs()), maps)


@torch.no_grad()
def _removals(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Baseline,
    patches: int | Sequence[int] | None,
    subsets: Tensor,
    scores: Scores,
) -> tuple[Tensor, Tensor]:
    """Sum the map over each subset, and compute the drop of the class logit without the subset: both (N, M).

    The subsets (M, ...) are bool over the grid of patches. A drop below a millionth of the highest logit is set to 0.
    """
    refuse_other_images(images, maps)
    size = maps.shape[2:]
    subsets = subsets.to(maps.device)
    sums = patch_sums(maps, grid(size, patches)).flatten(1)
    replacement = as_baseline(baseline, images, patches=patches)
    taken = (replace_removed(images, expand_patches(subset[None], size), replacement) for subset in subsets)
    # The untouched images take part, so that one check for probabilities covers all outputs.
    outputs = outputs_of(forward_func, images, itertools.chain([images], taken), targets, scores)
    logits = wide(torch.stack([of_class(class_logits(each, scores), targets) for each in outputs], 1))
    drops = logits[:, :1] - logits[:, 1:]
    none = drops.abs() <= _ROUNDING * wide(outputs[0].abs().amax(1))[:, None]
    return sums @ subsets.flatten(1).to(sums).T, drops.masked_fill(none, 0)


def _random_subsets(counts: Sequence[int], subset_size: int, runs: int, seed: int) -> Tensor:
    """Draw random subsets of a grid of patches, (runs, *counts)."""
    total = math.prod(counts)
    if not 1 <= subset_size < total:
        raise ValueError(
            f"subset_size must be from 1 to {total - 1}, fewer than the {total} patches; got {quoted(subset_size)}."
        )
    if runs < 2:
        raise ValueError(f"runs must be >= 2, or nothing correlates; got {quoted(runs)}.")
    # On the CPU, so that the subsets are the same for every device.
    generator = torch.Generator().manual_seed(seed)
    subsets = torch.zeros(runs, total, dtype=torch.bool)
    for subset in subsets:
        # One permutation per run, whatever the size: more runs begin with the same subsets, whose scores a PatchGame
        # remembers, and subsets of different sizes are nested.
        subset[torch.randperm(total, generator=generator)[:subset_size]] = True
    return subsets.view(runs, *counts)


def _single_patches(counts: Sequence[int]) -> Tensor:
    """Return the subsets of a single patch, (patches, *counts)."""
    return torch.eye(math.prod(counts), dtype=torch.bool).view(-1, *counts)


def _squares(counts: Sequence[int], sides: Sequence[int]) -> Tensor:
    """Return all squares (cubes in volumes, runs in signals) of these sides on a grid of patches, (M, *counts)."""
    for side in sides:
        if not 1 <= side <= min(counts):
            raise ValueError(f"sides must be from 1 to {min(counts)}, the patches per side; got {quoted(side)}.")
    found = []
    for side in sides:
        for corner in itertools.product(*[range(count - side + 1) for count in counts]):
            found.append(torch.zeros(*counts, dtype=torch.bool))
            found[-1][tuple(slice(start, start + side) for start in corner)] = True
    return torch.stack(found)
