"""SoftCAM (Djoumessi & Berens, MIDL 2026): read the class evidence map out of a SoftCAM model.

Nothing is estimated: the map is a step of the model's own computation, and its mean is the logit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerAttribution, PerturbationAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.forward import observe
from captum_softcam._intervention.layers import layer_name, refuse_flat_layer
from captum_softcam._intervention.targets import OneScore
from captum_softcam._intervention.view import unwrap
from captum_softcam._names import named

__all__ = ["LayerSoftCam"]


class LayerSoftCam(LayerAttribution, PerturbationAttribution):
    r"""Evidence of the class at every position of a SoftCAM model :cite:p:`djoumessi2026softcam`.

    .. math:: S(p) = E_c(p), \qquad y_c = \frac{1}{hw} \sum_p S(p)

    with the evidence :math:`E` (N, K, h, w), the output of ``layer``, and the logits :math:`y` (N, K).

    Departures from the paper: the map is raw and signed; the paper shows its positive part.

    Cost: one forward.

    Args:
        forward_func (callable): a SoftCAM model, or a function around it such as a softmax.
        layer (torch.nn.Module): the evidence head, ``SoftCamModel.evidence``, or any layer whose output is one map
            per class with the logits as means.
        device_ids (list of int): kept for Captum's signature. Default: None

    Example::

        >>> soft_cam = LayerSoftCam(model, model.evidence)
        >>> soft_cam.attribute(images, target=3).shape
        torch.Size([2, 1, 7, 7])
    """

    def __init__(self, forward_func: Callable[..., Tensor], layer: nn.Module, device_ids: list[int] | None = None) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        PerturbationAttribution.__init__(self, forward_func)

    @log_usage()
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
        relu_attributions: bool = False,
    ) -> Tensor:
        """Return the evidence maps of the class ``target``.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first.
            target (int, Tensor (N,) or list of int): the class. Default: None
            additional_forward_args (any): passed to ``forward_func``. Default: None
            relu_attributions (bool): set negative evidence to 0, as the paper's figures do. Default: False

        Returns:
            Tensor: (N, 1, h, w), raw and signed, in units of the logit.

        Raises:
            TypeError: if the layer is not a module.
            ValueError: if the output of the layer is not a spatial map, if the model is in train mode, or if the means of
                the maps are not the model's logits (or their softmax or sigmoid).
            AssertionError: for a target that does not fit the scores, as in Captum.
        """
        call = Call.of(self.forward_func, inputs, additional_forward_args)
        choose = OneScore(target, call.count)
        evidence = self._evidence(call)
        if not call.count:
            return evidence[:, :1]
        # A list of one column as the index keeps the dimension of the classes.
        maps = torch.stack([each[choose.columns(len(each), row)] for row, each in enumerate(evidence)])
        return maps.relu() if relu_attributions else maps

    @torch.no_grad()
    def attribute_all(self, inputs: Tensor | tuple[Tensor, ...], additional_forward_args: Any = None) -> Tensor:
        """Return the evidence maps of all classes at the cost of one.

        Args:
            inputs (Tensor or tuple of Tensor): model inputs, examples first.
            additional_forward_args (any): passed to ``forward_func``. Default: None

        Returns:
            Tensor: (N, K, h, w), raw and signed, in units of the logit.

        Raises:
            TypeError: if the layer is not a module.
            ValueError: as :meth:`attribute` does.
        """
        return self._evidence(Call.of(self.forward_func, inputs, additional_forward_args)).clone()

    def _evidence(self, call: Call) -> Tensor:
        layer = unwrap(self.layer)
        if not call.count:
            return self._evidence(call.with_one_blank())[:0]
        # Not tracked, because the check against the logits also shows whether the channels are dimension 1.
        trace = observe(call, layer, tracked=False)
        evidence: Tensor = trace.features
        refuse_flat_layer(evidence, type(self).__name__, call.model, layer, call.arguments)
        if not _explains(evidence, trace.result):
            raise ValueError(
                f"layer {named(layer_name(call.model, layer))} gives {tuple(evidence.shape)}, whose means over the "
                "positions are not the model's logits; LayerSoftCam needs the evidence head of a SoftCAM model. "
                "Convert the model with convert_to_softcam(model) and pass its 'evidence'."
            )
        return evidence


def _explains(evidence: Tensor, scores: Any) -> bool:
    """Return whether the means of the maps are the scores of the model, as logits, softmax or sigmoid."""
    logits = evidence.flatten(2).mean(2)
    if not isinstance(scores, Tensor) or scores.shape != logits.shape:
        return False
    # Relative to the largest logit, because the logit of one class may be close to 0.
    error = 1e-3 * (1 + float(logits.abs().max()))
    if torch.allclose(scores, logits, atol=error):
        return True
    # An error of a logit is a relative error of its probability. Capped, because large outputs of another layer would make
    # any probabilities pass.
    error = min(error, 0.1)
    for known in (logits.softmax(1), logits.sigmoid()):
        if bool(((scores - known).abs() <= error * known.amax(1, keepdim=True)).all()):
            return True
    return False
