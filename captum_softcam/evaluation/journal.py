"""The folder of a running comparison: a file per batch, so that a run that was cut off anywhere goes on where it was."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captum_softcam.evaluation.part import Part

__all__ = ["Journal", "is_complete", "refuse_existing"]

_SETTINGS = "running.json"
_PARTS = "parts"


class Journal:
    """Results on their way to the disk.

    While a comparison runs, its folder holds ``running.json`` (what was asked for) and ``parts/`` (a file per batch, whole
    or absent). Samples are known by their place in the data set: a resumed run may take other batches.

    Args:
        folder (Path): of the comparison.
        settings (mapping): what the results depend on; JSON.
        notes (mapping): what else belongs to the run; JSON.
        resume (bool): whether to go on with what is there.

    Raises:
        FileExistsError: if the folder exists and is not to be resumed.
        FileNotFoundError: if there is nothing to resume.
        ValueError: if the folder was started with other settings.
        OSError: if it cannot be written to.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], notes: Mapping[str, Any], *, resume: bool = False) -> None:
        self.folder = folder
        text = json.dumps({"settings": settings, "notes": notes}, indent=2)
        if resume:
            _refuse_other(folder, started=self.read(folder)["settings"], now=json.loads(text)["settings"])
        else:
            _start(folder, text)

    @staticmethod
    def read(folder: Path) -> dict[str, Any]:
        """What a comparison that was cut off was started with.

        Args:
            folder (Path): of the comparison.

        Returns:
            dict: its ``settings`` and ``notes``.

        Raises:
            FileNotFoundError: if no comparison was cut off there.
        """
        if not (folder / _SETTINGS).exists():
            raise FileNotFoundError(f"'{folder}' holds no comparison that was cut off; there is nothing to resume.")
        running: dict[str, Any] = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        return running

    @staticmethod
    def read_parts(folder: Path) -> Iterator[Part]:
        """The results of the batches that are done, read one by one.

        Args:
            folder (Path): of the comparison.

        Yields:
            Part: the results of one batch, in the order of their first samples.

        Raises:
            ValueError: if a file of results is not one of ours.
        """
        return map(Part.load, sorted((folder / _PARTS).glob("*.npz")))

    def add(self, part: Part) -> None:
        """Put the results of a batch on the disk.

        Args:
            part (Part): the results.

        Raises:
            OSError: if the disk is full or the folder cannot be written to.
        """
        part.save(self.folder / _PARTS / f"{part.indices[0]:09d}-{len(part.indices)}.npz")

    def discard_if_empty(self) -> None:
        """Leave no folder behind where nothing was done."""
        if not any((self.folder / _PARTS).glob("*.npz")):
            self.close()
            self.folder.rmdir()

    def close(self) -> None:
        """The comparison is complete and saved: let go of what it was made of."""
        (self.folder / _SETTINGS).unlink(missing_ok=True)
        shutil.rmtree(self.folder / _PARTS, ignore_errors=True)


def _start(folder: Path, text: str) -> None:
    """The folder, with all that is needed to resume, from the first moment that it can be seen."""
    refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (draft / _PARTS).mkdir()
        (draft / _SETTINGS).write_text(text + "\n", encoding="utf-8")
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def refuse_existing(path: Path, option: str = "--out") -> None:
    """Make sure that results can be written to a new place, for they are never overwritten.

    Args:
        path (Path): where to.
        option (str): of the command line, which the message tells to change. Default: ``"--out"``

    Raises:
        FileExistsError: if the path is taken, by a comparison that was cut off or anything else, or lies below a file.
    """
    if (path / _SETTINGS).exists():
        raise FileExistsError(f"'{path}' holds a comparison that was cut off; go on with it by --resume, or move it away.")
    if path.exists():
        raise FileExistsError(f"'{path}' exists already and is not overwritten; choose another {option} or move it away.")
    files = [parent for parent in path.parents if parent.is_file()]
    if files:
        raise FileExistsError(f"'{path}' lies below '{files[0]}', which is a file; choose another {option}.")


def is_complete(folder: Path) -> bool:
    """Whether a comparison ran to its end in ``folder``."""
    return (folder / "manifest.json").exists() and not (folder / _SETTINGS).exists()


def _refuse_other(folder: Path, started: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError where a resumed run would mix results of two different ones."""
    for name, value in now.items():
        if started.get(name) != value:
            raise ValueError(
                f"the comparison in '{folder}' was started with {name} {_short(started.get(name))}, and is resumed with "
                f"{_short(value)}; take the same, or another folder."
            )


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, dict) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
