"""Attribution methods: the papers' as Captum ``LayerAttribution`` classes, and Captum's own beside them."""

from captum.attr import Attribution, IntegratedGradients, LayerGradCam, Occlusion

from captum_softcam._intervention.layout import FeatureLayout
from captum_softcam.attr.class_activation_map import LayerClassActivationMap
from captum_softcam.attr.recipro_cam import LayerReciproCam
from captum_softcam.attr.score_cam import LayerScoreCam
from captum_softcam.attr.soft_cam import LayerSoftCam
from captum_softcam.attr.suggest import LayerChoice, suggest_layers

__all__ = [
    "METHODS",
    "FeatureLayout",
    "LayerChoice",
    "LayerClassActivationMap",
    "LayerReciproCam",
    "LayerScoreCam",
    "LayerSoftCam",
    "suggest_layers",
]

METHODS: dict[str, type[Attribution]] = {
    "soft_cam": LayerSoftCam,
    "recipro_cam": LayerReciproCam,
    "class_activation_map": LayerClassActivationMap,
    "score_cam": LayerScoreCam,
    "grad_cam": LayerGradCam,
    "occlusion": Occlusion,
    "integrated_gradients": IntegratedGradients,
}
"""The methods that can be compared, by name; Captum's own take part as they are."""
