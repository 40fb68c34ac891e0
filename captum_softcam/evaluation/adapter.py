"""One way to call every method: by name or class, at input resolution, as Quantus wants it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from captum.attr import Attribution, IntegratedGradients, LayerAttribution, Occlusion
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_softcam._layers import get_layer
from captum_softcam._maps import upsample
from captum_softcam._names import closest
from captum_softcam.attr import METHODS, LayerSoftCam
from captum_softcam.evaluation.batches import device_of
from captum_softcam.evaluation.controls import CONTROLS

__all__ = ["LayerExplainFunc", "find_method"]


def find_method(name: str) -> type[Attribution]:
    """The class of a method or control; a wrong name raises ValueError and lists the closest ones."""
    known = {**METHODS, **CONTROLS}
    if name not in known:
        raise ValueError(f"method {name!r} is unknown. {closest(name, known)}")
    return known[name]


class LayerExplainFunc:
    """A method as a Quantus ``explain_func``: signed maps at input resolution from whatever model is handed in.

    The layer is looked up *by name* in that model, for Quantus' randomisation metrics hand in altered copies. Layer
    maps are upsampled bilinearly; input attributions (N, C, H, W) are summed over the channels.

    Args:
        method (str or type): a name in ``METHODS`` or ``CONTROLS``, or any Captum attribution class.
        layer (str): name of the layer, for layer methods; ``LayerSoftCam`` takes ``"evidence"`` if none is given.
            Default: None
        **arguments: further arguments of the method's ``attribute``. Occlusion slides a window of an eighth of the image
            by half its side, Integrated Gradients takes 32 steps, unless told otherwise.

    Raises:
        ValueError: for an unknown method, or a layer method without a layer.

    Example::

        >>> explain = LayerExplainFunc("recipro_cam", layer="layer4")
        >>> quantus.MaxSensitivity()(model, x_batch, y_batch, explain_func=explain)
    """

    def __init__(self, method: str | type[Attribution], layer: str | None = None, **arguments: Any) -> None:
        self.method = find_method(method) if isinstance(method, str) else method
        if self.method is LayerSoftCam and layer is None:
            layer = "evidence"
        if issubclass(self.method, LayerAttribution) and layer is None:
            raise ValueError(f"{self.method.__name__} needs the name of a layer; got None.")
        self.layer = layer if issubclass(self.method, LayerAttribution) else None
        self.arguments = arguments

    def __call__(self, model: nn.Module, inputs: NDArray[Any], targets: NDArray[Any], **_: Any) -> NDArray[np.float32]:
        """Maps (N, 1, H, W) for images (N, C, H, W) and classes (N,); Quantus' further arguments are not needed."""
        device = device_of(model)
        images = torch.as_tensor(inputs, dtype=torch.float32, device=device)
        maps = self.explain(model, images, torch.as_tensor(targets, dtype=torch.long, device=device))
        return maps.float().cpu().numpy()

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The same for tensors: (N, 1, H, W) on the device of ``images``."""
        arguments = {**_default_arguments(self.method, images), **self.arguments}
        layer = () if self.layer is None else (get_layer(model, self.layer),)
        maps: Tensor = self.method(model, *layer).attribute(images, target=targets, **arguments).detach()
        return upsample(maps.sum(1, keepdim=True), tuple(images.shape[2:]))


def _default_arguments(method: type[Attribution], images: Tensor) -> dict[str, Any]:
    """What Captum leaves to the caller."""
    if method is Occlusion:
        window = [max(2, side // 8) for side in images.shape[2:]]
        return {
            "sliding_window_shapes": (images.shape[1], *window),
            "strides": (images.shape[1], *(side // 2 for side in window)),
        }
    if method is IntegratedGradients:
        return {"n_steps": 32, "internal_batch_size": max(64, len(images))}
    return {}
