"""Checkpoints of a training: written whole, the one before kept, and looked at before a training goes on from them.

They are read without pickled code, and every byte is checked: torch itself does not notice a flipped bit.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from captum_softcam._files import replacing
from captum_softcam._names import quoted, shown

__all__ = ["BEST", "LAST", "NOTE", "PREVIOUS", "WholeFiles", "newest_checkpoint", "read_checkpoint", "refuse_foreign"]

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
NOTE = "captum_softcam"
"""The entry of a checkpoint with what is known of its training: ``rows`` of the history, ``finished`` and ``recipe``."""


class WholeFiles(TorchCheckpointIO):
    """Lightning's way to write checkpoints, but whole or not at all, with a note in each; ``last`` becomes ``previous``."""

    def __init__(self) -> None:
        super().__init__()
        self.note: dict[str, Any] = {}

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ARG002 (Lightning's signature)
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint (dict): what Lightning puts together.
            path (path): where to.
            storage_options (object): of other storage than files; not used.

        Raises:
            OSError: if it cannot be written; what was there is still there.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch would turn the error of a full disk into one of its own
        torch.save({**checkpoint, NOTE: self.note}, content)
        with replacing(path) as file:
            file.write(content.getbuffer())
            if path.name == LAST and path.exists():
                file.flush()
                os.fsync(file.fileno())
                path.replace(path.with_name(PREVIOUS))


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Find the checkpoint that a training goes on from: the last one, or the one before if the last is damaged.

    Args:
        folder (Path): of the checkpoints.

    Returns:
        tuple of Path and dict: the file and its content.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if none can be read.
    """
    found = [path for path in (folder / LAST, folder / PREVIOUS) if os.path.lexists(path)]
    if not found:
        raise FileNotFoundError(
            f"'{shown(folder / LAST)}' does not exist, so there is nothing to resume; start without resume."
        )
    for path in found:
        content = read_checkpoint(path)
        if content is not None:
            return path, content
    raise ValueError(
        f"'{shown(found[0])}' is damaged, so nothing can be resumed from it; put a copy of it back, or train anew in "
        "another folder."
    )


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint, as plain values and tensors alone.

    Args:
        path (Path): the file.

    Returns:
        dict: its content, on the CPU; None if it is missing or truncated, a bit of it has flipped, or it holds anything but
            a dictionary of plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a broken file makes zipfile and torch.load raise almost anything
        return None
    return content if isinstance(content, dict) else None


def refuse_foreign(
    path: Path,
    content: Mapping[str, Any],
    weights: Mapping[str, Any],
    recipe: Mapping[str, Any],
    parts: Sequence[str] = (),
) -> None:
    """Raise ValueError unless a checkpoint was written by the training that goes on.

    Args:
        path (Path): the file, for the message.
        content (mapping): what it holds.
        weights (mapping): the state dict of the model that goes on.
        recipe (mapping): numbers and names that a training is the same by.
        parts (sequence of str): what it needs besides weights. Default: nothing
    """
    given, expected = _shapes(content.get("state_dict")), _shapes(weights)
    if given and given != expected:
        name = min(dict(given.items() ^ expected.items()))
        raise ValueError(
            f"'{shown(path)}' is of another model: {quoted(name)} is {given.get(name, 'missing')} there, and "
            f"{expected.get(name, 'missing')} here; resume with the model it was started with."
        )
    note = content.get(NOTE)
    if not given or not isinstance(note, dict) or not _is_whole(note) or not content.keys() >= set(parts):
        raise ValueError(
            f"'{shown(path)}' is of no training that can go on; put the right file there, or train anew in another folder."
        )
    for name, value in recipe.items():
        if note["recipe"].get(name) != value:
            raise ValueError(
                f"'{shown(path)}' is of another training: {name} is {quoted(note['recipe'].get(name))} there, and "
                f"{quoted(value)} here; resume with what it was started with, or train anew in another folder."
            )


def _is_whole(note: dict[Any, Any]) -> bool:
    rows = note.get("rows")
    named = isinstance(rows, list) and all(isinstance(row, dict) and {"val_score", "val_loss"} <= row.keys() for row in rows)
    return named and isinstance(note.get("recipe"), dict) and isinstance(note.get("finished"), bool)


def _shapes(weights: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a state dict, by name."""
    if not isinstance(weights, Mapping):
        return {}
    return {str(name): tuple(value.shape) for name, value in weights.items() if isinstance(value, torch.Tensor)}
