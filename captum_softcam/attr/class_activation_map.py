"""CAM (Zhou et al., CVPR 2016): the classifier's weights applied at every position of the last feature map.

No gradients and no names of layers are needed: pooling and classifier are found in one forward of the model, and the
classifier itself computes the scores of every position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from captum.attr import LayerAttribution, PerturbationAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.closed_form import Choice, Rows, observe_copies
from captum_softcam._intervention.forward import agree
from captum_softcam._intervention.layers import layer_name, spatial_layout
from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam._intervention.operations import LINEAR
from captum_softcam._intervention.targets import AllScores, OneScore, check_rows
from captum_softcam._intervention.view import unwrap
from captum_softcam._names import reason

__all__ = ["LayerClassActivationMap"]


class LayerClassActivationMap(LayerAttribution, PerturbationAttribution):
    r"""Weighted sum of the feature maps by the classifier's weights :cite:p:`zhou2016cam`.

    .. math:: S(p) = \sum_k w_{ck} f_k(p), \qquad y_c = \frac{1}{hw} \sum_p S(p) + b_c

    with the features :math:`f` (N, C, h, w) that enter the global average pooling and the linear classifier
    :math:`w` (K, C), :math:`b` (K,) behind it.

    Departures from the paper: the map is raw and signed. If there are layers that act on every position alone between
    ``layer`` and the pooling (batch normalisation, activations, 1x1 convolutions), :math:`f` is their output.

    Cost: one forward, and the classifier once per position.

    Args:
        forward_func (callable): the model, or any function around it, that returns logits (N, K).
        layer (torch.nn.Module): its output is the map (N, C, h, w) that is pooled, or a map shortly before it.
        device_ids (list of int): kept for Captum's signature. Default: None
        layout (FeatureLayout): layout of the layer's output, for transformers where it cannot be derived. Default: None

    Example::

        >>> cam = LayerClassActivationMap(model, model.layer4)
        >>> cam.attribute(images, target=3).shape
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
        relu_attributions: bool = False,
    ) -> Tensor:
        """Compute the maps of the class ``target`` at the resolution of the layer.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first.
            target (int, tuple, Tensor or list): the class, in any of Captum's forms. Default: None
            additional_forward_args (any): passed to ``forward_func``. Default: None
            attribute_to_layer_input (bool): use the input of the layer instead of its output. Default: False
            relu_attributions (bool): set negative values to 0. Default: False

        Returns:
            Tensor: (N, 1, h, w), raw and signed, in units of the logit.

        Raises:
            TypeError: if the layer is not a module.
            ValueError: if the output of the layer is not a spatial map, if the layer is not part of the model, if the model
                is in train mode, or if a global average pooling and a linear classifier do not follow.
            AssertionError: for a target that does not fit the scores, as in Captum.
        """
        call = Call.of(self.forward_func, inputs, additional_forward_args)
        maps = self._maps(call, OneScore(target, call.count), attribute_to_layer_input)
        return maps.relu() if relu_attributions else maps

    @torch.no_grad()
    def attribute_all(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        """Compute the maps of all classes at the cost of one.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first.
            additional_forward_args (any): passed to ``forward_func``. Default: None
            attribute_to_layer_input (bool): use the input of the layer instead of its output. Default: False

        Returns:
            Tensor: (N, K, h, w), raw and signed, in units of the logit.

        Raises:
            TypeError: if the layer is not a module.
            ValueError: as :meth:`attribute` does, and if the scores are not (N, K).
        """
        call = Call.of(self.forward_func, inputs, additional_forward_args)
        return self._maps(call, AllScores(), attribute_to_layer_input)

    def _maps(self, call: Call, choose: Choice, at_input: bool) -> Tensor:
        """Return maps (N, R, h, w) of the scores (P, R) that ``choose`` selects."""
        layer = unwrap(self.layer)
        if not call.count:
            return self._maps(call.with_one_blank(), choose, at_input)[:0]
        trace, rows = observe_copies(call, layer, None, self.layout, at_input=at_input)
        # Scores without a row per example end the short way as well, and their own message is the helpful one.
        if not rows.found:
            check_rows(trace.result, call.count)
        layout = spatial_layout(trace, rows.layout or self.layout, type(self).__name__, call.model, layer, call.arguments)
        _refuse_other_heads(rows, layer_name(call.model, layer))
        grid = layout.to_maps(trace.features).shape[2:]
        scores = torch.stack(rows.scores(call.count, choose))
        positions, example = scores[:, :-2], scores[:, -1:]
        # Of a linear head, the scores of the positions have the score of the example as mean; functions that multiply
        # features with features are noticed here.
        # The tolerance is relative to the scores of the examples, because those of single positions may be far larger.
        if not agree(positions.mean(1, keepdim=True), example, replace(trace, result=example)):
            _refuse_not_linear(["a function that is not linear"])
        maps = torch.stack(rows.differences(call.count, choose)).transpose(1, 2)  # without the bias
        return maps.reshape(*maps.shape[:2], *grid)


def _refuse_other_heads(rows: Rows, layer: str) -> None:
    """Raise ValueError unless pooling and linear layers are all that follows."""
    if not rows.found:
        raise ValueError(
            f"behind layer {layer} the model does more than pool ({reason(rows.obstacle) or 'no pooling is called'}); "
            "LayerClassActivationMap needs global average pooling and a linear classifier there. Take the last spatial "
            "layer, or LayerReciproCam, which needs neither."
        )
    other = [name for name in rows.head if name not in LINEAR]
    if other:
        _refuse_not_linear(other)


def _refuse_not_linear(functions: list[str]) -> None:
    raise ValueError(
        f"between pooling and scores stands {', '.join(dict.fromkeys(functions))}; LayerClassActivationMap needs a linear "
        "classifier whose logits are the scores. LayerReciproCam explains any head."
    )
