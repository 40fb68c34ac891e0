"""Score-CAM (Wang et al., CVPR Workshops 2020): weigh each channel by the score of the image seen through it.

Special: no gradients. Each channel that is not flat costs one forward of the whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from captum.attr import LayerAttribution, PerturbationAttribution
from captum.log import log_usage
from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._call import Call, chunk_size
from captum_softcam._layers import spatial_layouts
from captum_softcam._layout import FeatureLayout
from captum_softcam._maps import rescale, upsample
from captum_softcam._tail import observe, unwrap
from captum_softcam._targets import row_targets, select_score

__all__ = ["LayerScoreCam"]


class LayerScoreCam(LayerAttribution, PerturbationAttribution):
    r"""Feature maps weighted by the score of the input that each of them lets through :cite:p:`wang2020scorecam`.

    .. math::

        S(p) = \mathrm{ReLU}\Big(\sum_k \alpha_k f_k(p)\Big), \qquad \alpha = \mathrm{softmax}_k(s_k), \qquad
        s_k = y_c\big(x \odot M_k\big) - y_c(x_0)

    with features :math:`f` (N, C, h, w), masks :math:`M_k` (N, 1, H, W), which are :math:`f_k` upsampled and scaled to
    [0, 1], and a baseline :math:`x_0` that cancels in the softmax.

    Departures from the paper: a flat channel, which cannot be scaled to [0, 1], has no mask and no part in the softmax;
    other libraries let its mask be 0, and their map differs where there is one. The score is what ``forward_func``
    returns; the paper takes logits.

    Variants: ``channel_softmax=False`` with ``torch.softmax`` around the model is the authors' released code.
    ``scale_first=True`` is torchcam 0.5. ``align_corners=True`` is grad-cam 1.5.7.

    Cost: one forward, and one per channel that is not flat.

    Args:
        forward_func (callable): the model or any function around it that returns scores (N, K).
        layer (torch.nn.Module): gives a map (N, C, h, w); 1-D and 3-D maps (N, C, ...) work alike.
        device_ids (list of int): kept for Captum's signature. Default: None
        layout (FeatureLayout): how the layer's output is a map, for transformers of which it is not known. Default: None

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
        """Maps of the class ``target`` at layer resolution.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first. Those with as many dimensions as the map
                (N, C, h, w) are masked.
            target (int, tuple, Tensor or list): the class, in any of Captum's forms. Default: None
            additional_forward_args (any): passed to ``forward_func``; tensors with one row per example are handed on
                row by row. Default: None
            attribute_to_layer_input (bool): take what the layer reads, not what it gives. Default: False
            relu_attributions (bool): set negative values to 0, as the paper does. Default: True
            perturbations_per_eval (int): masked inputs per forward; bounds the memory, does not change the map.
                Default: as many as hold 32 MiB of inputs
            show_progress (bool): show a bar over channels. Default: False
            channel_softmax (bool): weights are the softmax of the scores over the channels, or the scores themselves.
                Default: True
            scale_first (bool): scale channels to [0, 1] before they are upsampled, not after. Default: False
            align_corners (bool): upsampling aligns the centres of the corner pixels, not their corners. Default: False
            baselines (Tensor or float): input whose score is subtracted from each; without effect under the softmax over
                the channels. Default: None, which subtracts nothing

        Returns:
            Tensor: (N, 1, h, w), not scaled, 0 if all channels are flat; a tuple of them if the layer gives a tuple.

        Raises:
            TypeError: if the layer is no module.
            ValueError: if the layer gives no spatial map or is not part of the model, if the model is in train mode, if no
                input can be masked, or if ``perturbations_per_eval`` is below 1.
            AssertionError: for a target that does not fit the scores, as in Captum.
        """
        call, layer = Call.of(self.forward_func, inputs, additional_forward_args), unwrap(self.layer)
        targets = row_targets(target, call.count)
        trace = observe(call.run, layer, model=call.model, at_input=attribute_to_layer_input)
        layouts = spatial_layouts(trace, self.layout, type(self).__name__, call.model, layer, call.arguments)
        for wanted in targets:
            select_score(trace.result, wanted)  # what is wrong with the target is said before the work
        values = trace.features if isinstance(trace.features, tuple) else (trace.features,)
        parts = [layout.to_maps(values[place]) for place, layout in layouts.items()]
        work = sum(int(_is_alive(part.flatten(0, 1)).sum()) for part in parts)
        with tqdm(total=work, desc=self.get_name(), disable=not show_progress) as bar:
            options = (perturbations_per_eval, scale_first, align_corners, bar)
            maps = tuple(
                torch.stack(
                    [
                        _Masked(call, targets[row], row, part.dim(), *options).map(part[row], channel_softmax, baselines)
                        for row in range(call.count)
                    ]
                )
                for part in parts
            )
        maps = tuple(m.relu() for m in maps) if relu_attributions else maps
        return maps if isinstance(trace.features, tuple) else maps[0]


@dataclass(frozen=True)
class _Masked:
    """The model, run on one example that is seen through channels."""

    call: Call
    target: Any
    row: int
    dims: int
    chunk: int | None
    scale_first: bool
    align_corners: bool
    bar: tqdm[Any]

    def map(self, features: Tensor, channel_softmax: bool, baselines: Tensor | float | None) -> Tensor:
        """The map (1, h, w) of the example's features (C, h, w), before the ReLU."""
        channels = features[_is_alive(features)]
        if not len(channels):
            return torch.zeros_like(features[:1])
        weights = self._scores(channels)
        if channel_softmax:
            weights = weights.softmax(0)
        elif baselines is not None:
            weights = weights - self._score(lambda image: torch.zeros_like(image) + baselines, 1)
        return torch.einsum("k,k...->...", weights.to(channels), channels)[None]

    def _scores(self, channels: Tensor) -> Tensor:
        """The score (C,) of the example seen through each of the channels (C, h, w)."""
        image = next((value[:1] for value in self.call.inputs if value.dim() == self.dims), None)
        if image is None:
            shapes = ", ".join(str(tuple(value.shape)) for value in self.call.inputs)
            raise ValueError(f"no input can be masked: inputs are {shapes}, and the map has {self.dims} dimensions.")
        masks = (rescale(channels) if self.scale_first else channels)[:, None]
        return torch.cat([self._seen_through(part) for part in masks.split(chunk_size(self.chunk, image))])

    def _seen_through(self, channels: Tensor) -> Tensor:
        """The same for a chunk of channels (P, 1, h, w)."""

        def mask(image: Tensor) -> Tensor:
            masks = upsample(channels, tuple(image.shape[2:]), align_corners=self.align_corners)
            return image * (masks if self.scale_first else rescale(masks))

        self.bar.update(len(channels))
        return self._score(mask, len(channels))

    def _score(self, change: Callable[[Tensor], Tensor], number: int) -> Tensor:
        """The score (P,) of copies of the example of which every input with as many dimensions as the map is changed."""
        copies = self.call.copies(self.row, number)
        inputs = tuple(change(value) if value.dim() == self.dims else value for value in copies.inputs)
        return select_score(replace(copies, inputs=inputs).run(), self.target)


def _is_alive(channels: Tensor) -> Tensor:
    """Whether each channel (C, ...) takes more than one value (C,)."""
    cells = channels.flatten(1)
    return cells.amax(1) > cells.amin(1)
