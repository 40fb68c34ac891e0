"""SoftCAM models: convert a classifier, penalise its evidence, train it, ship it."""

from importlib import import_module
from typing import TYPE_CHECKING

from captum_softcam.softcam.architectures import Architecture
from captum_softcam.softcam.classifiers import EMBEDDED, Classifier, load_classifier, load_embedded, new_classifier
from captum_softcam.softcam.convert import convert_to_softcam
from captum_softcam.softcam.export import export_onnx
from captum_softcam.softcam.files import load_softcam, save_softcam
from captum_softcam.softcam.loss import ElasticNetEvidenceLoss
from captum_softcam.softcam.model import Conversion, EvidenceHead, SoftCamModel

if TYPE_CHECKING:
    from captum_softcam.softcam.task import SoftCamTask
    from captum_softcam.softcam.training import TrainingResult, train_classifier

__all__ = [
    "EMBEDDED",
    "Architecture",
    "Classifier",
    "Conversion",
    "ElasticNetEvidenceLoss",
    "EvidenceHead",
    "SoftCamModel",
    "SoftCamTask",
    "TrainingResult",
    "convert_to_softcam",
    "export_onnx",
    "load_classifier",
    "load_embedded",
    "load_softcam",
    "new_classifier",
    "save_softcam",
    "train_classifier",
]

_WITH_LIGHTNING = {"SoftCamTask": "task", "TrainingResult": "training", "train_classifier": "training"}


def __getattr__(name: str) -> object:
    """Load what needs Lightning when it is asked for: Lightning is an extra, and slow to import."""
    if name not in _WITH_LIGHTNING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_WITH_LIGHTNING[name]}"), name)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ImportError(f"{name} needs {missing}; run: pip install 'captum-softcam[train]'.") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
