"""The two classifiers of retinal lesions that the package carries, stored without pickle.

Each is one safetensors file whose header names the torchvision architecture, its arguments and the classes. They were
trained on :class:`captum_softcam.data.RetinalLesions` by ``benchmarks/train_embedded.py`` and serve as a demonstration:
they have seen one photograph with painted lesions and know nothing about patients.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torchvision
from safetensors import safe_open
from safetensors.torch import save_file

from captum_softcam.softcam.classifiers import Classifier
from captum_softcam.softcam.convert import convert_to_softcam
from captum_softcam.softcam.model import SoftCamModel

__all__ = ["EMBEDDED", "load_embedded", "save_embedded"]

EMBEDDED = ("lesions_softcam", "lesions_black_box")
"""Names of the embedded classifiers, the SoftCAM model and the black box it was made from."""

_FOLDER = Path(__file__).parent / "weights"


def load_embedded(name: str = "lesions_softcam") -> Classifier:
    """Load an embedded classifier, in eval mode, on the CPU.

    Args:
        name (str): ``"lesions_softcam"``, whose evidence maps decide, or ``"lesions_black_box"``, the pooled
            classifier it was converted from. Default: ``"lesions_softcam"``

    Returns:
        Classifier: its ``model`` takes images (N, 3, 160, 160) in [0, 1] and gives logits (N, 4).

    Raises:
        ValueError: on an unknown name.

    Example::

        >>> load_embedded().classes
        ('healthy', 'hard exudates', 'haemorrhages', 'cotton-wool spots')
    """
    if name not in EMBEDDED:
        raise ValueError(f"embedded model {name!r} is unknown; expected one of {', '.join(map(repr, EMBEDDED))}.")
    with safe_open(_FOLDER / f"{name}.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["captum_softcam"])
        weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a mapping)
    model = build_embedded(header["architecture"], header["arguments"], softcam=header["softcam"])
    model.load_state_dict({key: value.to(model.state_dict()[key].dtype) for key, value in weights.items()})
    classes, mean, std = (tuple(header[key]) for key in ("classes", "mean", "std"))
    return Classifier(name, model.eval(), classes, header["image_size"], mean, std)


def build_embedded(architecture: str, arguments: dict[str, Any], *, softcam: bool) -> Any:
    """The untrained torchvision model of a header, converted where it is a SoftCAM model."""
    model = torchvision.models.get_model(architecture, weights=None, **arguments)
    return convert_to_softcam(model) if softcam else model


def save_embedded(classifier: Classifier, architecture: str, arguments: dict[str, Any], folder: Path = _FOLDER) -> Path:
    """Write a classifier in the embedded format, weights as float16, and return the file.

    Args:
        classifier (Classifier): name, model, classes and image size.
        architecture (str): name of the torchvision builder.
        arguments (dict): its arguments; they must survive JSON.
        folder (Path): where to write. Default: the folder of the package.
    """
    header = {
        "architecture": architecture,
        "arguments": arguments,
        "softcam": isinstance(classifier.model, SoftCamModel),
        "classes": classifier.classes,
        "image_size": classifier.image_size,
        "mean": classifier.mean,
        "std": classifier.std,
    }
    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in classifier.model.state_dict().items()
    }
    path = folder / f"{classifier.name}.safetensors"
    save_file(weights, path, metadata={"captum_softcam": json.dumps(header)})
    path.chmod(0o644)  # safetensors leaves files that only their owner can read
    return path
