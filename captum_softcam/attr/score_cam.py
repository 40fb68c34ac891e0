"""Score-CAM (Wang et al., CVPR Workshops 2020): weigh each channel by the score of the image seen through it.

No gradients are needed, but every channel that is not flat costs one forward of the whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerAttribution, PerturbationAttribution
from captum.log import log_usage
from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.forward import observe, values_of
from captum_softcam._intervention.layers import spatial_layouts
from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.masked_inputs import MaskedInputs
from captum_softcam._intervention.targets import check_rows, row_targets, select_score
from captum_softcam._intervention.view import unwrap

__all__ = ["LayerScoreCam"]


class LayerScoreCam(LayerAttribution, PerturbationAttribution):
    r"""Feature maps weighted by the score of the input that each of them lets through :cite:p:`wang2020scorecam`.

    .. math::

        S(p) = \mathrm{ReLU}\Big(\sum_k \alpha_k f_k(p)\Big), \qquad \alpha = \mathrm{softmax}_k(s_k), \qquad
        s_k = y_c\big(x \odot M_k\big) - y_c(x_0)

    with features :math:`f` (N, C, h, w), masks :math:`M_k` (N, 1, H, W), which are :math:`f_k` upsampled and scaled to
    [0, 1], and a baseline :math:`x_0` that cancels in the softmax.

    Departures from the paper: a flat channel, which cannot be scaled to [0, 1], has no mask and no part in the softmax.
    Other libraries set its mask to 0, and their maps differ if there is such a channel. The score is the output of
    ``forward_func``; the paper uses logits.

    Variants: ``channel_softmax=False`` weights by the scores themselves, as in the paper's definition, while its algorithm
    uses the softmax. ``scale_first=True`` equals torchcam 0.5, ``align_corners=True`` grad-cam 1.5.7 before it resizes.

    Cost: two forwards, the second on untouched copies that must have the scores of the first, and one per channel that is
    not flat.

    Args:
        forward_func (callable): the model, or any function around it, that returns scores (N, K).
        layer (torch.nn.Module): its output is a map (N, C, h, w), or a 1-D or 3-D map (N, C, ...).
        device_ids (list of int): kept for Captum's signature. Default: None
        layout (FeatureLayout): layout of the layer's output, for transformers where it cannot be derived. Default: None

    Example::

        >>> score_cam = LayerScoreCam(model, model.layer4)
        >>> score_cam.attribute(images, target=3).shape
        torch.Size([2, 1, 7, 7])
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

    @log_usage()
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        channel_softmax: bool = True,
        scale_first: bool = False,
        align_corners: bool = False,
        baselines: Tensor | float | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Compute the maps of the class ``target`` at the resolution of the layer.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first. Those with as many dimensions as the map
                (N, C, h, w) are masked.
            target (int, tuple, Tensor or list): the class, in any of Captum's forms. Default: None
            additional_forward_args (any): passed to ``forward_func``; of tensors with one row per example, each example
                gets its own row. Default: None
            attribute_to_layer_input (bool): use the input of the layer instead of its output. Default: False
            relu_attributions (bool): set negative values to 0, as the paper does. Default: True
            perturbations_per_eval (int): masked inputs per forward, which limits the memory and does not change the map.
                Default: as many as hold 32 MiB of inputs
            show_progress (bool): show a bar over channels. Default: False
            channel_softmax (bool): weight by the softmax of the scores over the channels, or by the scores themselves.
                Default: True
            scale_first (bool): scale channels to [0, 1] before they are upsampled, not after. Default: False
            align_corners (bool): align the centres of the corner pixels in upsampling, not their corners. Default: False
            baselines (Tensor or float): input, (1, ...) or one per example, whose score is subtracted from each; without
                effect with the softmax over the channels. Default: None, which subtracts nothing

        Returns:
            Tensor: (N, 1, h, w), not scaled, 0 if all channels are flat; a tuple of them if the output of the layer is a
                tuple.

        Raises:
            TypeError: if the layer is not a module.
            ValueError: if the output of the layer is not a spatial map, if the layer is not part of the model, if the model
                is in train mode, if no input can be masked, or if ``perturbations_per_eval`` is below 1.
            AssertionError: for a target that does not fit the scores, as in Captum.
        """
        call, layer = Call.of(self.forward_func, inputs, additional_forward_args), unwrap(self.layer)
        targets = row_targets(target, call.count)
        # The shape of the maps of an empty batch comes from one blank example
        seen = call if call.count else call.with_one_blank()
        trace = observe(seen, layer, at_input=attribute_to_layer_input)
        layouts = spatial_layouts(trace, self.layout, type(self).__name__, call.model, layer, seen.arguments)
        check_rows(trace.result, seen.count)
        for wanted in targets:
            select_score(trace.result, wanted)  # so that a wrong target is refused before the work
        values = values_of(trace.features)
        parts = [layout.to_maps(values[place]) for place, layout in layouts.items()]
        work = sum(int(_is_alive(part.flatten(0, 1)).sum()) for part in parts)
        with tqdm(total=work, desc=self.get_name(), disable=not show_progress) as bar:

            def explain(part: Tensor, row: int) -> Tensor:
                options = (perturbations_per_eval, scale_first, align_corners, bar)
                masked = MaskedInputs(call, trace, targets[row], row, part.dim(), *options)
                return _weighted_sum(part[row], masked, channel_softmax, call.rows((baselines,), row, 1)[0])

            maps = tuple(
                torch.stack([explain(part, row) for row in range(call.count)]) if call.count else part[:0, :1]
                for part in parts
            )
        maps = tuple(m.relu() for m in maps) if relu_attributions else maps
        return maps if isinstance(trace.features, tuple) else maps[0]


def _weighted_sum(features: Tensor, masked: MaskedInputs, channel_softmax: bool, baselines: Tensor | float | None) -> Tensor:
    """Return the map (1, h, w) of the features (C, h, w) of one example, before the ReLU."""
    channels = features[_is_alive(features)]
    if not len(channels):
        return torch.zeros_like(features[:1])
    weights = masked.scores(channels)
    if channel_softmax:
        # The score of a baseline is the same for all channels, and cancels
        weights = weights.softmax(0)
    elif baselines is not None:
        weights = weights - masked.score(lambda image: torch.zeros_like(image) + baselines, 1)
    # Under autocast, scores and features may differ in dtype, which einsum refuses.
    return torch.einsum("k,k...->...", weights.to(channels), channels)[None]


def _is_alive(channels: Tensor) -> Tensor:
    """Return whether each channel (C, ...) has more than one value (C,), exactly, because any such channel yields a mask."""
    cells = channels.flatten(1)
    return cells.amax(1) > cells.amin(1)
