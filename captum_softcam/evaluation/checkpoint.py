"""The checkpoint of a comparison: a folder with a file per batch, from which a run that was cut off goes on."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from captum_softcam._files import check_place, new_folder, owned, read_json, remove_leftovers, write_json
from captum_softcam._names import listed, named, shown
from captum_softcam.evaluation.reader import SampleReader, Unreadable
from captum_softcam.evaluation.result import BatchResult, fingerprint

__all__ = ["Checkpoint", "find_again", "is_complete", "refuse_duplicate", "refuse_existing", "refuse_other"]

_SETTINGS = "running.json"
_RESULTS = "parts"
_CURE = "Copy it back from where it is whole, or start the comparison anew in another folder"


class Checkpoint:
    """The folder of a comparison that is not complete yet.

    It holds ``running.json`` (the settings, and a random name of the run) and ``parts/`` (a file per batch, whole or absent,
    with the name of its run). One process at a time works there.

    Args:
        folder (Path): folder of the comparison.
        run (str): name of the run.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self.run = run

    @classmethod
    @contextmanager
    def opened(
        cls, folder: Path, settings: Mapping[str, Any], notes: Mapping[str, Any], *, resume: bool = False
    ) -> Iterator[Checkpoint]:
        """Start a run in a new folder, or go on with an interrupted one, and lock the folder for the block.

        A folder without any result at the end of the block is removed.

        Args:
            folder (Path): folder of the comparison.
            settings (mapping): the settings that the results depend on, as JSON returns them.
            notes (mapping): further facts about the run; JSON.
            resume (bool): go on with the run in the folder. Default: False

        Raises:
            FileExistsError: if the folder exists and ``resume`` is False.
            FileNotFoundError: if there is nothing to resume.
            BlockingIOError: if another process works there.
            ValueError: if the run was started with other settings, or ``running.json`` is damaged.
        """
        if resume:
            cls.read(folder)  # before a lock is left in a folder of something else
        else:
            _start(folder, {"run": secrets.token_hex(16), "settings": settings, "notes": notes})
        with owned(folder):
            # Read again under the lock, because another process may have completed the run since.
            started = cls.read(folder)
            refuse_other(folder, started["settings"], settings)
            checkpoint = cls(folder, started["run"])
            try:
                yield checkpoint
            finally:
                if not checkpoint.has_results():
                    shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def read(folder: Path) -> dict[str, Any]:
        """Return the ``run``, ``settings`` and ``notes`` of an interrupted comparison.

        Raises:
            FileNotFoundError: if there is none in the folder.
            ValueError: if ``running.json`` is damaged.
        """
        if not (folder / _SETTINGS).exists():
            raise FileNotFoundError(f"'{shown(folder)}' holds no comparison that was cut off; there is nothing to resume.")
        return read_json(folder / _SETTINGS, _CURE)

    def results(self) -> list[BatchResult]:
        """Return the results on the disk, by their first sample; ValueError if a file is damaged, or of another run."""
        return [BatchResult.load(path, self.run) for path in sorted((self.folder / _RESULTS).glob("*.npz"))]

    def add(self, result: BatchResult) -> None:
        """Write the result of a batch to the disk, unless none of its samples could be read."""
        if not result.indices:
            return
        # A random suffix, because indices shift when samples come and go between two runs.
        name = f"{result.indices[0]:09d}-{secrets.token_hex(4)}.npz"
        replace(result, run=self.run).save(self.folder / _RESULTS / name)

    def has_results(self) -> bool:
        """Return whether a batch, or the complete comparison, is on the disk."""
        return (self.folder / "manifest.json").exists() or any((self.folder / _RESULTS).glob("*.npz"))

    def close(self) -> None:
        """Remove the checkpoint of a comparison that is complete and saved."""
        # The settings go first: without them the folder counts as complete, and the results are no longer needed.
        (self.folder / _SETTINGS).unlink(missing_ok=True)
        remove_leftovers(self.folder / _RESULTS)
        for path in (self.folder / _RESULTS).glob("*.npz"):
            path.unlink()
        with suppress(OSError):  # not empty: it holds a file of the user's
            (self.folder / _RESULTS).rmdir()


def _start(folder: Path, running: Mapping[str, Any]) -> None:
    """Create the folder; it can be resumed from the moment that it is visible."""
    refuse_existing(folder)
    with new_folder(folder) as draft:
        (draft / _RESULTS).mkdir()
        write_json(draft / _SETTINGS, running)


def refuse_existing(path: Path, option: str = "--out") -> None:
    """Raise an error unless results can be written to a new place, because they are never overwritten.

    Args:
        path (Path): where to write.
        option (str): the command-line option that the message tells the user to change. Default: ``"--out"``

    Raises:
        FileExistsError: if the path exists, as an interrupted comparison or anything else, or lies below a file.
        BlockingIOError: if a comparison is running there.
        OSError: if it cannot be written.
    """
    name = shown(path)
    if os.path.exists(path / _SETTINGS):  # Path.exists raises an error for a name that is too long
        with suppress(PermissionError), owned(path):
            pass  # raises BlockingIOError if the run is still going on
        raise FileExistsError(f"'{name}' holds an unfinished comparison; go on with it by --resume, or move it away.")
    if os.path.lexists(path):
        raise FileExistsError(f"'{name}' exists already and is not overwritten; choose another {option} or move it away.")
    files = [parent for parent in path.parents if parent.is_file()]
    if files:
        raise FileExistsError(f"'{name}' lies below '{shown(files[0])}', which is a file; choose another {option}.")
    check_place(path)


def is_complete(folder: Path) -> bool:
    """Return whether ``folder`` holds a comparison that ran to its end."""
    return (folder / "manifest.json").exists() and not (folder / _SETTINGS).exists()


def refuse_other(folder: Path, started: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the first difference, if a resumed run has other settings than the interrupted one."""
    for name in dict.fromkeys((*now, *started)):
        one, other = started.get(name), now.get(name)
        # The order counts as well, because arrays of results have methods and metrics by their places.
        if one != other or (isinstance(one, dict) and isinstance(other, dict) and list(one) != list(other)):
            where, one, other = _difference(name, one, other)
            raise ValueError(
                f"the comparison in '{shown(folder)}' was started with {where} {_short(one)}, and is resumed with "
                f"{_short(other)}; take the same, or another folder."
            )


def _difference(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Return the path and values of the first difference; descend into mappings with the same keys."""
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        inner = next(key for key in one if one[key] != other[key])
        return _difference(f"{name} {inner}", one[inner], other[inner])
    return name, one, other


def _short(value: Any) -> str:
    return listed(value) if isinstance(value, dict) else named(value)


def find_again(
    results: Sequence[BatchResult], samples: SampleReader, workers: int = 0, show_progress: bool = False
) -> tuple[list[BatchResult], list[Unreadable]]:
    """Match results to the samples of a resumed run by identifier and content, because indices may have shifted.

    Results of samples that are gone, changed or unreadable are left out, with a warning of those that are gone or changed.

    Args:
        results (sequence of BatchResult): results with the identifiers and digests of their samples.
        samples (SampleReader): all samples of the resumed run; each is read once.
        workers (int): processes that read them. Default: 0, this one
        show_progress (bool): show a progress bar. Default: False

    Returns:
        tuple: the results, each sample at most once, with its index in ``samples``; and the samples that cannot be read.

    Raises:
        ValueError: if two samples have the same identifier, or none of the scored samples is unchanged.
    """
    if not results:
        return [], []
    now, unreadable = _identities(samples, workers, show_progress)
    found: set[int] = set()
    kept = []
    # The largest first, because a batch is scored again as a whole when one of its samples was repaired.
    for result in sorted(results, key=lambda result: -len(result.indices)):
        fresh = {}
        for place, identity in enumerate(zip(result.identifiers, result.digests, strict=True)):
            index, digest = now.get(identity[0], (-1, ""))
            if digest == identity[1] and index not in found:
                fresh[place] = index
        found.update(fresh.values())
        if fresh:
            kept.append(result.moved(fresh))
    _report_changes(results, now, found, unreadable)
    return kept, unreadable


def refuse_duplicate(identifier: str, index: int, indices: dict[str, int]) -> None:
    """Add the index of a sample to those by identifier; ValueError if another sample has the same identifier."""
    if indices.setdefault(identifier, index) != index:
        raise ValueError(
            f"samples {indices[identifier]} and {index} are both called '{shown(identifier)}'; give every sample an "
            "identifier of its own."
        )


class _Identities:
    """Identifier and digest of every sample; the process that reads a sample drops its image."""

    def __init__(self, samples: SampleReader) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[str, str] | Unreadable:
        sample = self.samples[index]
        return sample if isinstance(sample, Unreadable) else (sample.identifier, fingerprint(sample))


def _identities(
    samples: SampleReader, workers: int, show_progress: bool
) -> tuple[dict[str, tuple[int, str]], list[Unreadable]]:
    """Return index and digest of every sample by its identifier, and the samples that cannot be read."""
    # ``batch_size=None`` yields the pairs one by one; a batch would hold a tuple of names and one of digests.
    loader: Any = DataLoader(
        _Identities(samples),  # type: ignore[arg-type]  # has a length
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),  # else it draws from the user's own
    )
    bar = tqdm(loader, "comparing the samples with those that were scored", disable=not show_progress, dynamic_ncols=True)
    indices: dict[str, int] = {}
    identities, unreadable = {}, []
    for index, identity in enumerate(bar):
        if isinstance(identity, Unreadable):
            unreadable.append(identity)
            continue
        refuse_duplicate(identity[0], index, indices)
        identities[identity[0]] = index, identity[1]
    return identities, unreadable


def _report_changes(
    results: Sequence[BatchResult], now: dict[str, tuple[int, str]], found: set[int], unreadable: Sequence[Unreadable]
) -> None:
    scored = dict.fromkeys(name for result in results for name in result.identifiers)
    broken = {each.identifier for each in unreadable}.intersection(scored)  # the comparison names them
    gone = [name for name in scored if name not in now and name not in broken]
    changed = [name for name in scored if name in now and now[name][0] not in found]
    if not found:
        raise ValueError(
            f"none of the {len(scored)} samples that were scored is there as it was ({len(gone)} gone, "
            f"{len(changed)} changed, {len(broken)} unreadable: {listed([*changed, *gone, *broken])}); resume with the same "
            "data, or start anew in another folder."
        )
    # stacklevel=5 is the caller of compare_methods, whose line the warning names.
    if gone:
        warnings.warn(
            f"{len(gone)} of {len(scored)} samples that were scored are not there any more; their scores are left out: "
            f"{listed(gone)}.",
            stacklevel=5,
        )
    if changed:
        warnings.warn(
            f"{len(changed)} of {len(scored)} samples changed since they were scored, and are scored again: "
            f"{listed(changed)}.",
            stacklevel=5,
        )
