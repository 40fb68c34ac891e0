"""Checkpoints of a training: written completely or not at all, with the previous one kept, and checked before resuming.

They are read without pickled code, and their checksums are verified, because ``torch.load`` does not notice a flipped bit.
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
"""The entry of a checkpoint that describes its training by ``rows`` of the history, ``finished`` and ``recipe``."""


class WholeFiles(TorchCheckpointIO):
    """Checkpoint plugin of Lightning that writes whole files or none, adds a note, and keeps the previous last one."""

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
            checkpoint (dict): the content, collected by Lightning.
            path (path): the file.
            storage_options (object): not used.

        Raises:
            OSError: if it cannot be written; an existing file is then unchanged.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # because torch.save replaces the OSError of a full disk by a RuntimeError
        torch.save({**checkpoint, NOTE: self.note}, content)
        with replacing(path) as file:
            file.write(content.getbuffer())
            if path.name == LAST and path.exists():  # the new file is complete on disk before the old one is renamed
                file.flush()
                os.fsync(file.fileno())
                path.replace(path.with_name(PREVIOUS))


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Find the checkpoint to resume from: the last one, or the previous one if the last is damaged.

    Args:
        folder (Path): folder of the checkpoints.

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
    """Read a checkpoint of plain values and tensors.

    Args:
        path (Path): the file.

    Returns:
        dict: its content, on the CPU; None if it is missing, truncated or damaged, or if it is not a dictionary of plain
            values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # verifies the CRC-32 of every entry, which torch.load skips
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
    """Raise ValueError unless a checkpoint was written by the training that is resumed.

    Args:
        path (Path): the file, for the message.
        content (mapping): content of the checkpoint.
        weights (mapping): state dict of the model that is resumed.
        recipe (mapping): settings that must not change.
        parts (sequence of str): required entries besides the weights. Default: none
    """
    # The model is compared first: with another one, names and shapes say more than a recipe that differs.
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
    """Return the shapes of the tensors of a state dict, by name."""
    if not isinstance(weights, Mapping):
        return {}
    return {str(name): tuple(value.shape) for name, value in weights.items() if isinstance(value, torch.Tensor)}
