"""Recipro-CAM (Byun & Lee, CVPR Workshops 2024): keep one position of a feature map at a time and read the score.

No gradients are needed, and only the part of the network behind the layer runs once per position. Where that part pools
right away, one ordinary forward yields the scores of all positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from captum.attr import LayerAttribution, PerturbationAttribution
from captum.log import log_usage
from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._intervention.call import Call, map_tensors
from captum_softcam._intervention.closed_form import Choice, observe_copies
from captum_softcam._intervention.forward import refuse_undefined_zero, values_of
from captum_softcam._intervention.layers import spatial_layouts
from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.masks import MaskedPart, MaskedTail
from captum_softcam._intervention.targets import AllScores, OneScore, check_rows
from captum_softcam._intervention.view import unwrap

__all__ = ["LayerReciproCam"]


class LayerReciproCam(LayerAttribution, PerturbationAttribution):
    r"""Score of the class when one position of a feature map is kept, less that with none :cite:p:`byun2024reciprocam`.

    .. math:: S(p) = y_c\big(T(f \odot m_p)\big) - y_c\big(T(0)\big)

    with features :math:`f` (N, C, h, w) at ``layer``, masks :math:`m_p` that keep position :math:`p` of the h x w and
    set all others to zero, and the rest of the model :math:`T`. Whatever reaches the scores on another path than through the
    layer, such as a skip connection around it, is not masked; neither are the prefix tokens of a transformer.

    Zero means that the position alone scores like a layer whose features are all 0. That is not the score of an image
    without the object: where a normalisation or a convolution with a bias follows, features of 0 are features like others.

    Behind a global average pooling and a linear classifier, the map of logits is CAM / (hw). It sums to the logit less the
    bias, which is not even added there. Elsewhere two scores are subtracted, so that the map has their rounding.

    Departures from the paper: the map is signed and relative to the score of no position, not min-max scaled; that scaling
    makes both the same. The score is the output of ``forward_func``; put a softmax around the model for the paper's
    probabilities. The default mask is that of the authors' released code; ``mask="gaussian_spread"`` is that of their first
    release, ``mask="gaussian"`` that of their code for ViT.

    Cost: one forward, and the head of the model once per position, where the tail is pointwise -> global average pooling ->
    head. Where it is the last block of a transformer of which prefix tokens or learned queries are read, also one run of the
    tail, one softmax per position, and the rest of the block for these tokens once per position. Otherwise up to three
    forwards, then the tail of the model once per position, at most ``perturbations_per_eval`` copies at a time. Each example
    has two copies more: an untouched one and one without any position. If the untouched copy does not have the score of the
    example, because the inputs of the layer do not belong to single examples (packed sequences, lists of images), the whole
    model runs once per position.

    Args:
        forward_func (callable): the model, or any function around it, that returns scores (N, K). A compiled model runs
            uncompiled, and one in a ``DataParallel`` on the device of its inputs.
        layer (torch.nn.Module): its output is a map (N, C, h, w), or a 1-D or 3-D map (N, C, ...). If it is called several
            times, the last call counts, as everywhere in Captum.
        device_ids (list of int): kept for Captum's signature. Default: None
        layout (FeatureLayout): layout of the layer's output, for transformers where it cannot be derived. Default: None

    Example::

        >>> recipro_cam = LayerReciproCam(model, model.layer4)
        >>> recipro_cam.attribute(images, target=3).shape
        torch.Size([2, 1, 7, 7])
        >>> recipro_cam.attribute_all(images).shape
        torch.Size([2, 1000, 7, 7])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: nn.Module,
        device_ids: list[int] | None = None,
        layout: FeatureLayout | None = None,
    ) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        PerturbationAttribution.__init__(self, forward_func)
        self.layout = layout

    # log_usage is outside: NoiseTunnel of Captum 0.9 calls attribute.__wrapped__, which must not lose no_grad.
    @log_usage()
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        mask: str | Tensor = "one_hot",
        relative: bool = True,
    ) -> Tensor | tuple[Tensor, ...]:
        """Compute the maps of the class ``target`` at the resolution of the layer.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first.
            target (int, tuple, Tensor or list): the class, in any of Captum's forms. Default: None
            additional_forward_args (any): passed to ``forward_func``; of tensors with one row per example, each example
                gets its own row. Default: None
            attribute_to_layer_input (bool): mask the input of the layer instead of its output. Default: False
            relu_attributions (bool): set negative values of the map to 0. Default: False
            perturbations_per_eval (int): masked copies per run of the tail, which limits the memory and does not change
                the map. Default: as many as hold 32 MiB of features; the tail needs about four times that
            show_progress (bool): show a bar over images and positions. Default: False
            mask (str or Tensor): ``"one_hot"``; ``"gaussian"``, 1 2 1 / 4 along every dimension of the grid, centred at
                the position and cut off at the border; ``"gaussian_spread"``, the features of the position spread with
                the same weights; or a kernel (h, w) or (C, h, w) of odd sides, whose entry at u is the weight of the
                position at u - (h // 2, w // 2) from the one that is kept. Default: ``"one_hot"``
            relative (bool): subtract the score with no position kept; False for the scores themselves. Default: True

        Returns:
            Tensor: (N, 1, h, w), signed, in units of the score; a tuple of them if the layer returns a tuple.

        Raises:
            TypeError: if the layer is not a module.
            ValueError: if the output of the layer is not a spatial map, if the layer is not part of the model, if the model
                is in train mode, if the mask does not fit the map, if ``perturbations_per_eval`` is below 1, or if there is
                no finite score to be relative to.
            AssertionError: for a target that does not fit the scores, as in Captum.
        """
        call = Call.of(self.forward_func, inputs, additional_forward_args)
        options = (mask, attribute_to_layer_input, perturbations_per_eval, show_progress, relative)
        maps = self._maps(call, OneScore(target, call.count), *options)
        return cast(Tensor | tuple[Tensor, ...], map_tensors(torch.relu, maps)) if relu_attributions else maps

    @torch.no_grad()
    def attribute_all(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        mask: str | Tensor = "one_hot",
        relative: bool = True,
    ) -> Tensor | tuple[Tensor, ...]:
        """Compute the maps of all classes at the cost of one.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first.
            additional_forward_args (any): passed to ``forward_func``, as by :meth:`attribute`. Default: None
            attribute_to_layer_input (bool): mask the input of the layer instead of its output. Default: False
            perturbations_per_eval (int): masked copies per run of the tail. Default: as for :meth:`attribute`
            show_progress (bool): show a bar over images and positions. Default: False
            mask (str or Tensor): the mask around a position, as for :meth:`attribute`. Default: ``"one_hot"``
            relative (bool): subtract the score with no position kept; False for the scores themselves. Default: True

        Returns:
            Tensor: (N, K, h, w), signed, in units of the score; a tuple of them if the layer returns a tuple.

        Raises:
            TypeError: if the layer is not a module.
            ValueError: as :meth:`attribute` does, and if the scores are not (N, K).
        """
        call = Call.of(self.forward_func, inputs, additional_forward_args)
        options = (mask, attribute_to_layer_input, perturbations_per_eval, show_progress, relative)
        return self._maps(call, AllScores(), *options)

    def _maps(
        self,
        call: Call,
        choose: Choice,
        mask: str | Tensor,
        at_input: bool,
        chunk: int | None,
        progress: bool,
        relative: bool,
    ) -> Tensor | tuple[Tensor, ...]:
        """Return maps (N, R, h, w) of the scores (P, R) that ``choose`` selects, or a tuple of them."""
        layer = unwrap(self.layer)
        if not call.count:
            # The maps of an empty batch have the shape of those of one blank example
            blank = self._maps(call.with_one_blank(), choose, mask, at_input, chunk, False, False)
            return cast(Tensor | tuple[Tensor, ...], map_tensors(lambda maps: maps[:0], blank))
        trace, rows = observe_copies(call, layer, mask, self.layout, at_input=at_input)
        layouts = spatial_layouts(trace, rows.layout or self.layout, type(self).__name__, call.model, layer, call.arguments)
        parts = [MaskedPart.of(trace.features, place, layout, mask, chunk) for place, layout in layouts.items()]
        if rows.found:
            # A list of one: the short way follows a single tensor, so that there is one part.
            raw = () if relative else rows.scores(call.count, choose)
            scores = [rows.differences(call.count, choose) if relative else [each[:-2] for each in raw]]
        else:
            check_rows(trace.result, call.count)
            for row in range(call.count):
                choose(trace.result, row)  # so that a wrong target is refused before the work
            work = sum(call.count * part.grid.numel() for part in parts)
            with tqdm(total=work, desc=self.get_name(), disable=not progress) as bar:
                tail = MaskedTail(call, layer, at_input, trace, bar)
                scores = [[tail.scores(part, row, choose, relative) for row in range(call.count)] for part in parts]
        maps = tuple(
            torch.stack([each.T.unflatten(1, part.grid) for each in examples])
            for examples, part in zip(scores, parts, strict=True)
        )
        if relative:
            for part, each in zip(parts, maps, strict=True):
                refuse_undefined_zero(each, values_of(trace.features)[part.place])
        return maps if isinstance(trace.features, tuple) else maps[0]
