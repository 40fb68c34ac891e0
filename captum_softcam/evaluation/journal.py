"""The folder of a running comparison: a file per batch, so that a run that was cut off anywhere goes on where it was."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from captum_softcam._files import check_place, new_folder, owned, read_json, remove_leftovers, write_json
from captum_softcam._names import listed, named, shown
from captum_softcam.evaluation.part import Part

__all__ = ["Journal", "is_complete", "refuse_existing", "refuse_other"]

_SETTINGS = "running.json"
_PARTS = "parts"
_CURE = "Copy it back from where it is whole, or start the comparison anew in another folder"


class Journal:
    """Results on their way to the disk.

    While a comparison runs, its folder holds ``running.json`` (what was asked for, and a random name of the run) and
    ``parts/`` (a file per batch, whole or absent, with the name of the run that it belongs to). One process at a time works
    there.

    Args:
        folder (Path): of the comparison.
        run (str): the name of the run.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self.run = run

    @classmethod
    @contextmanager
    def opened(
        cls, folder: Path, settings: Mapping[str, Any], notes: Mapping[str, Any], *, resume: bool = False
    ) -> Iterator[Journal]:
        """Start a run in a new folder, or go on with the one that was cut off there, as the only one to do so.

        A folder in which nothing has been done by the end of the block is removed.

        Args:
            folder (Path): of the comparison.
            settings (mapping): what the results depend on; JSON.
            notes (mapping): what else belongs to the run; JSON.
            resume (bool): whether to go on with what is there.

        Yields:
            Journal: for the time of the block the folder is this process's own.

        Raises:
            FileExistsError: if the folder exists and is not to be resumed.
            FileNotFoundError: if there is nothing to resume.
            BlockingIOError: if another process works there.
            ValueError: if the folder was started with other settings, or ``running.json`` is damaged.
            OSError: if it cannot be written to.
        """
        if resume:
            cls.read(folder)  # before a lock is left in a folder of something else
        else:
            _start(folder, {"run": secrets.token_hex(16), "settings": settings, "notes": notes})
        with owned(folder):
            started = cls.read(folder)
            refuse_other(folder, started["settings"], json.loads(json.dumps(settings)))
            journal = cls(folder, started["run"])
            try:
                yield journal
            finally:
                if not journal.has_results():
                    shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def read(folder: Path) -> dict[str, Any]:
        """What a comparison that was cut off was started with.

        Args:
            folder (Path): of the comparison.

        Returns:
            dict: its ``run``, ``settings`` and ``notes``.

        Raises:
            FileNotFoundError: if no comparison was cut off there.
            ValueError: if the file that says so is damaged.
        """
        if not (folder / _SETTINGS).exists():
            raise FileNotFoundError(f"'{shown(folder)}' holds no comparison that was cut off; there is nothing to resume.")
        return read_json(folder / _SETTINGS, _CURE)

    @classmethod
    def read_parts(cls, folder: Path) -> list[Part]:
        """The results of the batches that are done.

        Args:
            folder (Path): of the comparison.

        Returns:
            list of Part: in the order of their first samples.

        Raises:
            FileNotFoundError: if no comparison was cut off there.
            ValueError: if a file of results is damaged, or belongs to another run.
        """
        run = cls.read(folder)["run"]
        return [Part.load(path, run) for path in sorted((folder / _PARTS).glob("*.npz"))]

    def add(self, part: Part) -> None:
        """Put the results of a batch on the disk.

        Args:
            part (Part): the results.

        Raises:
            OSError: if the disk is full or the folder cannot be written to.
        """
        name = f"{part.indices[0]:09d}-{secrets.token_hex(4)}.npz"  # places shift when samples come and go between two runs
        replace(part, run=self.run).save(self.folder / _PARTS / name)

    def has_results(self) -> bool:
        """Whether a batch is on the disk, or the whole comparison."""
        return (self.folder / "manifest.json").exists() or any((self.folder / _PARTS).glob("*.npz"))

    def close(self) -> None:
        """The comparison is complete and saved: let go of what it was made of."""
        (self.folder / _SETTINGS).unlink(missing_ok=True)
        remove_leftovers(self.folder / _PARTS)
        for path in (self.folder / _PARTS).glob("*.npz"):
            path.unlink()
        with suppress(OSError):  # something of the user's lies there
            (self.folder / _PARTS).rmdir()


def _start(folder: Path, running: Mapping[str, Any]) -> None:
    """The folder, with all that is needed to resume, from the first moment that it can be seen."""
    refuse_existing(folder)
    with new_folder(folder) as draft:
        (draft / _PARTS).mkdir()
        write_json(draft / _SETTINGS, running)


def refuse_existing(path: Path, option: str = "--out") -> None:
    """Make sure that results can be written to a new place, for they are never overwritten.

    Args:
        path (Path): where to.
        option (str): of the command line, which the message tells to change. Default: ``"--out"``

    Raises:
        FileExistsError: if the path is taken, by a comparison that was cut off or anything else, or lies below a file.
        BlockingIOError: if a comparison is running there.
        OSError: if it cannot be written.
    """
    name = shown(path)
    if os.path.exists(path / _SETTINGS):  # unlike Path's, it takes a name that is too long
        with suppress(PermissionError), owned(path):
            pass  # raises where the run goes on
        raise FileExistsError(f"'{name}' holds a comparison that was cut off; go on with it by --resume, or move it away.")
    if os.path.lexists(path):
        raise FileExistsError(f"'{name}' exists already and is not overwritten; choose another {option} or move it away.")
    files = [parent for parent in path.parents if parent.is_file()]
    if files:
        raise FileExistsError(f"'{name}' lies below '{shown(files[0])}', which is a file; choose another {option}.")
    check_place(path)


def is_complete(folder: Path) -> bool:
    """Whether a comparison ran to its end in ``folder``."""
    return (folder / "manifest.json").exists() and not (folder / _SETTINGS).exists()


def refuse_other(folder: Path, started: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Make sure that a resumed run does not mix results of two different ones.

    Args:
        folder (Path): of the comparison.
        started (mapping): the settings that the results there depend on.
        now (mapping): those of the run that goes on.

    Raises:
        ValueError: if they differ; the text names the first that does.
    """
    for name in dict.fromkeys((*now, *started)):
        one, other = started.get(name), now.get(name)
        if one != other:
            where, one, other = _difference(name, one, other)
            raise ValueError(
                f"the comparison in '{shown(folder)}' was started with {where} {_short(one)}, and is resumed with "
                f"{_short(other)}; take the same, or another folder."
            )


def _difference(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Where two settings differ: for entries of the same names, within the first that does."""
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        inner = next(key for key in one if one[key] != other[key])
        return _difference(f"{name} {inner}", one[inner], other[inner])
    return name, one, other


def _short(value: Any) -> str:
    return listed(value) if isinstance(value, dict) else named(value)
