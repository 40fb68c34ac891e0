"""SoftCAM models: convert a classifier, penalise its evidence, load the embedded ones."""

from captum_softcam.softcam.classifiers import Classifier, load_classifier
from captum_softcam.softcam.convert import convert_to_softcam
from captum_softcam.softcam.embedded import EMBEDDED, load_embedded, save_embedded
from captum_softcam.softcam.loss import ElasticNetEvidenceLoss
from captum_softcam.softcam.model import EvidenceHead, SoftCamModel

__all__ = [
    "EMBEDDED",
    "Classifier",
    "ElasticNetEvidenceLoss",
    "EvidenceHead",
    "SoftCamModel",
    "convert_to_softcam",
    "load_classifier",
    "load_embedded",
    "save_embedded",
]
