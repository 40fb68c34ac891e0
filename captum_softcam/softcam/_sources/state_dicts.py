"""State dicts: read them from checkpoints, compare them with a network, and load them into it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from captum_softcam._names import quoted, shown

__all__ = ["fill", "mismatch", "read_state_dict", "refuse_nan"]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a file of ``torch.save``, or all tensors of a safetensors file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is broken, or holds anything but tensors.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint '{shown(path)}' is not a file.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:  # safetensors and torch have no common error for what they cannot read
            raise ValueError(f"checkpoint '{shown(path)}' is not a safetensors file, or is truncated.") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sparse and nested tensors, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes torch.load raise almost anything
        raise ValueError(
            f"checkpoint '{shown(path)}' cannot be read: it is broken, or holds more than tensors, and code in a checkpoint "
            "is never run. Save it with torch.save(model.state_dict(), path)."
        ) from error
    return _state_dict(content, path)


def fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights that fit into ``model``, which may be on the meta device."""
    # Into the state dict of the model itself, because it has the version metadata that MNASNet asks for.
    own = model.state_dict()
    empty = any(value.is_meta for value in own.values())
    for key, value in state.items():
        own[key] = value.to(own[key].dtype)
    model.load_state_dict(own, assign=empty)


def mismatch(expected: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """List the reasons why ``given`` cannot be loaded, one per kind of mismatch."""
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    both = [(key, value, given[key]) for key, value in expected.items() if key in given]
    misshapen = [
        f"{shown(key, 60)} {shown(tuple(found.shape), 60)} instead of {tuple(value.shape)}"
        for key, value, found in both
        if found.shape != value.shape
    ]
    strange = [f"{shown(key, 60)} ({kind})" for key, value, found in both if (kind := _strange(value, found))]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen, "of another kind": strange}
    return [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys]


def _strange(expected: Tensor, given: Tensor) -> str:
    """Describe why a tensor cannot replace another, apart from its shape; empty if it can."""
    if given.is_quantized or given.layout != torch.strided:
        return f"{'quantised' if given.is_quantized else 'sparse'} instead of dense"
    if given.is_floating_point() == expected.is_floating_point() and not given.is_complex():
        return ""
    found, wanted = (str(value.dtype).removeprefix("torch.") for value in (given, expected))
    return f"{found} instead of {wanted}"


def refuse_nan(state: dict[str, Tensor], what: str) -> None:
    """Raise ValueError for weights that are NaN."""
    for key, value in state.items():
        if value.is_floating_point() and bool(value.float().isnan().any()):
            raise ValueError(f"the weights {quoted(key)} of {what} are NaN; use a file from before the training failed.")


def _first(keys: list[str], count: int = 3) -> str:
    return ", ".join(shown(key, 120) for key in keys[:count]) + (", …" if len(keys) > count else "")


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """Take the state dict out of the dictionaries and prefixes that training scripts add."""
    for key in ("state_dict", "model"):  # in checkpoints of Lightning, and of torchvision's own scripts
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint '{shown(path)}' holds {type(content).__name__}; expected a state dict of tensors.")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"entry {quoted(key)} of checkpoint '{shown(path)}' is {type(value).__name__}; expected only tensors."
            )
        if value.is_meta or value.is_nested:
            kind = "without values" if value.is_meta else "nested"
            raise ValueError(
                f"entry {quoted(key)} of checkpoint '{shown(path)}' is {kind}; save the state dict of the trained model."
            )
    # DataParallel and DistributedDataParallel add the prefix.
    state = {str(key).removeprefix("module."): value for key, value in content.items()}
    if len(state) < len(content):
        raise ValueError(
            f"checkpoint '{shown(path)}' holds weights both with and without 'module.' before their names; keep one."
        )
    return state
