"""Axioms: identities that hold for a map whose values mean what they say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from captum_softcam._names import closest, quoted
from captum_softcam._scores import Scores
from captum_softcam.metrics.functional._answers import outputs_of
from captum_softcam.metrics.functional._distance import followed, refuse_other_versions
from captum_softcam.metrics.functional._edges import nan_if_flat, refuse_other_maps, usable_maps, wide
from captum_softcam.metrics.functional._grid import expand_patches, grid, patch_means

__all__ = ["completeness", "flip_symmetry", "insensitivity"]

_ROUNDING = 1e-6  # of the highest logit

Total = Literal["either", "sum", "mean"]


def completeness(maps: Tensor, outputs: Tensor, baseline_outputs: Tensor, *, total: Total = "either") -> Tensor:
    r"""Compute the error of the map's total as an account of the logit :cite:p:`sundararajan2017integrated`.

    .. math:: \min\left\{ \left| \sum_p A_p - \left(f(x) - f(x_0)\right) \right|,\;
        \left| \frac{1}{n} \sum_p A_p - f(x) \right| \right\}

    with the map :math:`A` of *n* positions, the logit :math:`f` of the class and an image :math:`x_0` without content; in
    logits, lower is better. Attributions of inputs, such as integrated gradients, add up to the difference of two logits.
    Class evidence averages to the logit itself: for SoftCAM the error is that of rounding. Neither method claims the
    identity of the other, and most methods claim none: by default, a map is judged by the identity that it meets better. An
    error as large as the logit says that the map accounts for nothing.

    Pass maps at the resolution of the method's layer, because upsampling by a factor that is not whole changes their mean.
    (Quantus tests the sum alone, for equality of floating-point numbers, which no method passes.)

    Args:
        maps (Tensor): (N, 1, ...), of any size.
        outputs (Tensor): logits of the explained classes, (N,).
        baseline_outputs (Tensor): their logits for an image without content, (N,).
        total (str): ``"sum"`` or ``"mean"`` for one of the identities. Default: ``"either"``

    Returns:
        Tensor: (N,), >= 0; NaN for maps that rank nothing. Cost: no forward here, but those behind the logits.

    Raises:
        ValueError: if the maps are not (N, 1, ...), the logits not (N,), or the total is unknown.
    """
    refuse_other_maps(maps)
    if not outputs.shape == baseline_outputs.shape == maps.shape[:1]:
        raise ValueError(
            f"outputs are {tuple(outputs.shape)} and baseline_outputs {tuple(baseline_outputs.shape)} for {len(maps)} maps; "
            "expected (N,), the logit of each sample's class."
        )
    values, whole, without = wide(maps).flatten(1), wide(outputs), wide(baseline_outputs)
    errors = {"sum": (values.sum(1) - (whole - without)).abs(), "mean": (values.mean(1) - whole).abs()}
    errors["either"] = torch.minimum(errors["sum"], errors["mean"])
    if total not in errors:
        raise ValueError(f"total is {quoted(total)}. {closest(total, list(errors))}")
    return nan_if_flat(errors[total], maps)


def flip_symmetry(maps: Tensor, mirrored_maps: Tensor) -> Tensor:
    r"""Compute how far the map is mirrored when the image is, along its last axis :cite:p:`crabbe2023evaluating`.

    .. math:: \frac{\lVert A(x') - A(x) \rVert}{\lVert A(x') - A(x) \rVert + \lVert A(x') - A(x)' \rVert}

    with the mirrored image :math:`x'` and the mirrored map :math:`A(x)'`, both for the class of the image; higher is better.
    1 for a map that turns with the image, 0 for one that stays as it is, 1/2 for one that does neither. The last axis is the
    horizontal of images, along which photographs can be mirrored; a signal is reversed, which few models are indifferent to.
    A model that tells left from right has maps that do, too: compare methods on one model.

    Args:
        maps (Tensor): (N, 1, ...).
        mirrored_maps (Tensor): the maps of the mirrored images, ``images.flip(-1)``, as they are, (N, 1, ...).

    Returns:
        Tensor: (N,), in [0, 1]; NaN for maps that rank nothing, and those that are their own mirror image. Cost: one map by
        the caller.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of one size.
    """
    refuse_other_versions(maps, mirrored_maps=mirrored_maps)
    scores = followed(mirrored_maps[:, 0].flatten(1), maps[:, 0].flip(-1).flatten(1), maps[:, 0].flatten(1))
    return nan_if_flat(scores, maps)


def insensitivity(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    patches: int | Sequence[int] | None = 8,
    tolerance: float = 0.1,
    scores: Scores = "softmax",
) -> Tensor:
    r"""Compute the relevance of the patches that the model ignores, relative to the mean :cite:p:`nguyen2020quantitative`.

    .. math:: \frac{\mathrm{mean}_{p \in I} |A_p|}{\mathrm{mean}_p |A_p|}, \qquad
        I = \left\{ p :\; d_p \le \tau \max_{p'} d_{p'} \right\}, \qquad d_p = \max_k |f_k(x_{\setminus p}) - f_k(x)|

    with the map's mean :math:`A_p` over a patch, the logits :math:`f_k` of all classes and the image
    :math:`x_{\setminus p}` whose patch is replaced by the baseline. Lower is better: 0 for a map that is 0 wherever the
    model does not react, 1 for one that is as strong there as anywhere. The logits of all classes are read, because that of
    one class may stay where evidence for and against it goes.

    Departures from the paper, which counts the features that have relevance or influence, but not both: here strong
    relevance weighs more than weak, and patches with influence but without relevance are not counted, because faithfulness
    metrics do so. The tolerance is a tenth, because networks react to nearly every patch: at 0.01, four of six photographs
    have no ignored patch (EfficientNet-Lite0). (Quantus compares relevance and influence with one threshold of 1e-5,
    although they have different units, and counts negative relevance as none.)

    Args:
        forward_func (callable): images (N, C, ...) -> logits (N, K).
        images (Tensor): (N, C, ...).
        maps (Tensor): (N, 1, ...), of the size of the images.
        targets (Tensor): (N,), the class of each image.
        baseline (Tensor): replacement of the images, (N, C, ...) or broadcastable to it.
        patches (int or sequence of int): per side, or along each dimension; None for single positions. Default: 8
        tolerance (float): largest change of an ignored patch, as a fraction of that of the most influential patch.
            Default: 0.1
        scores (str or callable): as for the other metrics, see :func:`as_scores`. This one reads the outputs before they
            become scores. Default: ``"softmax"``

    Returns:
        Tensor: (N,), >= 0; NaN for maps that rank nothing, and where the model ignores no patch or all of them. Cost: one
        forward, and one for each patch.

    Raises:
        ValueError: if the maps are not (N, 1, ...) of the images' number and size, a side has fewer positions than patches,
            the tolerance is not in [0, 1), or the outputs are not (N, K).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be a fraction in [0, 1); got {quoted(tolerance)}.")
    maps, size = usable_maps(images, maps), maps.shape[2:]
    counts = grid(size, patches)
    relevance = patch_means(maps, counts).flatten(1).abs()
    alone = torch.eye(relevance.shape[1], dtype=torch.bool, device=maps.device).view(-1, 1, *counts)
    taken = (torch.where(expand_patches(patch, size), baseline, images) for patch in alone)
    outputs = outputs_of(forward_func, images, itertools.chain([images], taken), targets, scores)
    whole, *without = (wide(each) for each in outputs)
    changes = torch.stack([(each - whole).abs().amax(1) for each in without], 1)
    # Rounding differs between batch sizes, and must not make a patch count.
    changes = changes.masked_fill(changes <= _ROUNDING * whole.abs().amax(1, keepdim=True), 0)
    ignored = changes <= tolerance * changes.amax(1, keepdim=True)
    ratio = (relevance * ignored).sum(1) / ignored.sum(1) / relevance.mean(1)  # 0 / 0 where none is ignored
    return nan_if_flat(ratio.masked_fill(ignored.all(1), math.nan), maps)
