"""Self-explaining CNNs (SoftCAM) and class activation maps (Recipro-CAM) for users of Captum and Quantus."""

from captum_softcam.attr import (
    LayerClassActivationMap,
    LayerReciproCam,
    LayerScoreCam,
    LayerSoftCam,
    suggest_layers,
)
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
    "LayerClassActivationMap",
    "LayerReciproCam",
    "LayerScoreCam",
    "LayerSoftCam",
    "SoftCamModel",
    "__version__",
    "convert_to_softcam",
    "load_embedded",
    "suggest_layers",
]

__version__ = "0.1.0"
