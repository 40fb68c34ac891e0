"""Find the samples of a resumed run among those that it has scored: by name and content, for places shift."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader
from tqdm import tqdm

from captum_softcam._names import listed, shown
from captum_softcam.data import Samples
from captum_softcam.evaluation.part import Part, fingerprint

__all__ = ["recognise", "refuse_twin"]


def recognise(parts: Sequence[Part], samples: Samples, workers: int = 0, show_progress: bool = False) -> list[Part]:
    """Keep the results of the samples that are still there and hold what they held, and put them in their new places.

    What is left out is said in a warning: samples that are not there any more, and those that changed and are scored again.

    Args:
        parts (sequence of Part): results, with the identifiers and digests of their samples.
        samples (Samples): all samples as they are now; each is read once.
        workers (int): processes that read them. Default: 0, this one
        show_progress (bool): show a bar. Default: False

    Returns:
        list of Part: each sample at most once; its place is that among ``samples``.

    Raises:
        ValueError: if two samples have one identifier, or not one of the samples holds what it held.
    """
    if not parts:
        return []
    places = _places(samples, workers, show_progress)
    found: set[int] = set()
    kept = []
    for part in parts:
        now = {place: _place(part, place, places) for place in range(len(part.indices))}
        fresh = {place: index for place, index in now.items() if index is not None and index not in found}
        found.update(fresh.values())
        if fresh:
            kept.append(part.only(list(fresh), list(fresh.values())))
    _tell(parts, places, found)
    return kept


def refuse_twin(identifier: str, place: int, places: dict[str, int]) -> None:
    """Make sure that no two samples have one identifier.

    Args:
        identifier (str): of a sample.
        place (int): its place among the samples.
        places (dict): those of the samples so far, to which it is added.

    Raises:
        ValueError: if another sample has it.
    """
    if places.setdefault(identifier, place) != place:
        raise ValueError(
            f"samples {places[identifier]} and {place} are both called '{shown(identifier)}'; give every sample an "
            "identifier of its own."
        )


class _Contents:
    """Name and digest of every sample; what it held is let go of in the process that read it."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> tuple[str, str]:
        sample = self.samples[place]
        return sample.identifier, fingerprint(sample)


def _places(samples: Samples, workers: int, show_progress: bool) -> dict[str, tuple[int, str]]:
    """Place and digest of every sample by its identifier."""
    loader: Any = DataLoader(_Contents(samples), batch_size=None, num_workers=workers)  # type: ignore[arg-type]  # has a length
    bar = tqdm(loader, "comparing the samples with those that were scored", disable=not show_progress, dynamic_ncols=True)
    names: dict[str, int] = {}
    places = {}
    for place, (identifier, digest) in enumerate(bar):
        refuse_twin(identifier, place, names)
        places[identifier] = place, digest
    return places


def _place(part: Part, place: int, places: dict[str, tuple[int, str]]) -> int | None:
    """Where a sample of a part is now; None if it is gone or changed."""
    now, digest = places.get(part.identifiers[place], (None, ""))
    return now if digest == part.digests[place] else None


def _tell(parts: Sequence[Part], places: dict[str, tuple[int, str]], found: set[int]) -> None:
    scored = dict.fromkeys(name for part in parts for name in part.identifiers)
    gone = [name for name in scored if name not in places]
    changed = [name for name in scored if name in places and places[name][0] not in found]
    if not found:
        raise ValueError(
            f"none of the {len(scored)} samples that were scored is there as it was ({len(gone)} gone, {len(changed)} "
            f"changed: {listed([*changed, *gone])}); resume with the same data, or start anew in another folder."
        )
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
