"""Self-explaining CNNs (SoftCAM) and class activation maps (Recipro-CAM) for users of Captum and Quantus."""

from captum_softcam.attr import LayerReciproCam, LayerSoftCam
from captum_softcam.softcam import (
    ElasticNetEvidenceLoss,
    EvidenceHead,
    SoftCamModel,
    convert_to_softcam,
    load_embedded,
)

__all__ = [
    "ElasticNetEvidenceLoss",
    "EvidenceHead",
    "LayerReciproCam",
    "LayerSoftCam",
    "SoftCamModel",
    "__version__",
    "convert_to_softcam",
    "load_embedded",
]

__version__ = "0.1.0"
