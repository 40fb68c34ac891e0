"""Networks of torchvision, with its own weights or those of a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from captum_softcam._fit import Fit
from captum_softcam._names import NAME, listed, named, quoted, reason, shown
from captum_softcam.softcam._sources.networks import Network, filled, fit_head, last_layer
from captum_softcam.softcam._sources.state_dicts import read_state_dict
from captum_softcam.softcam.architectures import Architecture

__all__ = ["load", "new"]


def load(name: str, checkpoint: Path | None, weights: str | None) -> Network:
    """Build a network with the weights of a checkpoint or with torchvision's own.

    Raises:
        ValueError: for unknown weights, for neither or both of ``checkpoint`` and ``weights``, or for a checkpoint that does
            not fit.
        FileNotFoundError: if there is no such checkpoint.
        ConnectionError: if torchvision's weights cannot be downloaded.
    """
    if weights is not None and checkpoint is None:
        return _with_own_weights(name, weights)
    if checkpoint is None or weights is not None:
        got = "neither" if weights is None else "both"
        raise ValueError(
            f"model {quoted(name)} needs a checkpoint (--checkpoint) or weights (--weights, e.g. DEFAULT), one of the two; "
            f"got {got}."
        )
    model, outputs = _with_checkpoint(name, checkpoint)
    return Network(model, num_classes=outputs)


def new(name: str, num_classes: int | None, checkpoint: Path | None, weights: str | None) -> Network:
    """Build a network with a new last layer, unless it has as many outputs already; random weights without a start.

    Raises:
        ValueError: as :func:`load` does.
        FileNotFoundError: if there is no such checkpoint.
        ConnectionError: if torchvision's weights cannot be downloaded.
    """
    start = (
        Network(Architecture(name).build()) if checkpoint is None and weights is None else load(name, checkpoint, weights)
    )
    outputs = num_classes or len(last_layer(start.model)[1].weight)
    fit_head(start.model, outputs)
    return replace(start, num_classes=outputs, classes=None)


def _with_own_weights(name: str, weights: str) -> Network:
    try:
        entry = torchvision.models.get_weight(f"{torchvision.models.get_model_weights(name).__name__}.{weights}")
    except (ValueError, AttributeError, KeyError):
        known = [w.name for w in torchvision.models.get_model_weights(name)]
        raise ValueError(
            f"weights {quoted(weights)} are unknown for {named(name)}; expected DEFAULT or {listed(known)}."
        ) from None
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    try:
        model = torchvision.models.get_model(name, weights=entry)
    except Exception as error:  # network, hash and file have no common error
        if file.exists():
            raise ValueError(f"the weights in '{shown(file)}' cannot be read; remove the file and run again.") from error
        raise ConnectionError(
            f"the weights {weights} of {name} could not be downloaded ({reason(error, NAME)}). Download {entry.url} on a "
            f"machine with a network, save it as {shown(file)}, and run again; or pass a checkpoint of your own."
        ) from error
    preset = entry.transforms()
    size, classes = preset.crop_size[0], tuple(entry.meta["categories"])
    fit = Fit("crop", size / preset.resize_size[0], preset.interpolation.value)
    return Network(
        model.eval(),
        num_classes=len(classes),
        classes=classes,
        image_size=size,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        fit=fit,
    )


def _with_checkpoint(name: str, path: Path) -> tuple[nn.Module, int]:
    """Build a network with the weights of a checkpoint, and with as many outputs as that has."""
    state = read_state_dict(path)
    outputs = _outputs(name, state)
    what = name if outputs is None else f"{name} for {outputs} classes"
    arguments = {} if outputs is None else {"num_classes": outputs}
    model = filled(Architecture(name, arguments).build(), state, path, what)
    return model, len(last_layer(model)[1].weight)


def _outputs(name: str, state: dict[str, Tensor]) -> int | None:
    """Return the number of outputs of a state dict; None if it lacks the last layer."""
    last, _ = last_layer(Architecture(name).build_without_memory())  # the number of its own outputs does not matter
    weight = state.get(f"{last}.weight")
    return len(weight) if weight is not None and weight.dim() else None
