"""Attribution methods: those of the papers as Captum ``LayerAttribution`` classes, and a registry with Captum's own.

Importing this package loads neither torch nor Captum; a class is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import lazy_loader

if TYPE_CHECKING:
    from captum.attr import Attribution

    from captum_softcam.attr.class_activation_map import LayerClassActivationMap
    from captum_softcam.attr.recipro_cam import LayerReciproCam
    from captum_softcam.attr.score_cam import LayerScoreCam
    from captum_softcam.attr.soft_cam import LayerSoftCam
    from captum_softcam.attr.suggest import FeatureLayout, LayerChoice, suggest_layers
else:  # hidden from type checkers, which would accept any name of a module with __getattr__
    __getattr__, _, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "class_activation_map": ["LayerClassActivationMap"],
            "recipro_cam": ["LayerReciproCam"],
            "score_cam": ["LayerScoreCam"],
            "soft_cam": ["LayerSoftCam"],
            "suggest": ["FeatureLayout", "LayerChoice", "suggest_layers"],
        },
    )

__all__ = [
    "METHODS",
    "FeatureLayout",
    "LayerChoice",
    "LayerClassActivationMap",
    "LayerReciproCam",
    "LayerScoreCam",
    "LayerSoftCam",
    "Method",
    "suggest_layers",
]


def __dir__() -> list[str]:
    return list(__all__)  # that of lazy_loader leaves out the names that are defined here


@dataclass(frozen=True)
class Method:
    """An attribution method that can be compared.

    Args:
        path (str): module and name of the class, separated by a colon.
        needs (str): what the method requires. ``"layer"`` is the name of a layer with a map, ``"evidence"`` a
            :class:`~captum_softcam.softcam.SoftCamModel`, whose evidence layer is then explained, and ``"model"`` nothing
            but the model.
        default (bool): whether a comparison includes the method when no methods are named. Default: True
        title (str): name of the method in its paper, for pictures. Default: none
        fast (bool): whether a map costs a few forward passes at most. Default: True
    """

    path: str
    needs: Literal["evidence", "layer", "model"]
    default: bool = True
    title: str = ""
    fast: bool = True

    @property
    def cls(self) -> type[Attribution]:
        """The class, imported on first use."""
        module, _, name = self.path.partition(":")
        found: type[Attribution] = getattr(importlib.import_module(module), name)
        return found


METHODS = {
    "soft_cam": Method("captum_softcam.attr.soft_cam:LayerSoftCam", "evidence", title="SoftCAM"),
    "recipro_cam": Method("captum_softcam.attr.recipro_cam:LayerReciproCam", "layer", title="Recipro-CAM"),
    # Not by default: CAM is Recipro-CAM at another scale, and Score-CAM costs a forward pass per channel.
    "class_activation_map": Method(
        "captum_softcam.attr.class_activation_map:LayerClassActivationMap", "layer", default=False, title="CAM"
    ),
    "score_cam": Method(
        "captum_softcam.attr.score_cam:LayerScoreCam", "layer", default=False, title="Score-CAM", fast=False
    ),
    "grad_cam": Method("captum.attr:LayerGradCam", "layer", title="Grad-CAM"),
    "occlusion": Method("captum.attr:Occlusion", "model", title="Occlusion", fast=False),
    "integrated_gradients": Method("captum.attr:IntegratedGradients", "model", title="Integrated Gradients", fast=False),
}
"""The methods that can be compared, by name; Captum's own take part as they are."""
