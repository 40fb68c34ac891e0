"""Attribution methods: the papers' as Captum ``LayerAttribution`` classes, and Captum's own beside them."""

from captum.attr import Attribution, IntegratedGradients, LayerGradCam, Occlusion

from captum_softcam.attr.recipro_cam import LayerReciproCam
from captum_softcam.attr.soft_cam import LayerSoftCam

__all__ = ["METHODS", "LayerReciproCam", "LayerSoftCam"]

METHODS: dict[str, type[Attribution]] = {
    "soft_cam": LayerSoftCam,
    "recipro_cam": LayerReciproCam,
    "grad_cam": LayerGradCam,
    "occlusion": Occlusion,
    "integrated_gradients": IntegratedGradients,
}
"""The methods that can be compared, by name; Captum's own take part as they are."""
