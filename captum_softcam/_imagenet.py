"""The 1,000 classes of ImageNet (ILSVRC 2012): their WordNet ids and names, in the order of the logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

__all__ = ["IMAGENET_CLASSES", "imagenet_names", "other_names", "wordnet_ids"]

IMAGENET_CLASSES = 1000
"""Number of classes."""

_SAME = 0.95  # of 1,000 names; libraries spell a few in their own way, such as both cranes as "crane"


def imagenet_names() -> tuple[str, ...]:
    """Return the names of the 1,000 classes as torchvision spells them, each of them once."""
    return tuple(name for _, name in _table())


def wordnet_ids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1,000 classes, such as ``"n01440764"``."""
    return tuple(wnid for wnid, _ in _table())


def other_names(classes: Sequence[str]) -> dict[str, int]:
    """Map ImageNet's names and WordNet ids to the numbers of the classes of a network that they mean.

    Args:
        classes (sequence of str): in the order of the logits: all classes of ImageNet, some of them, or others; named by
            WordNet ids, as torchvision does, or with synonyms as in ``"tench, Tinca tinca"``.

    Returns:
        dict: empty if none of the classes is one of ImageNet.
    """
    table = _table()
    plain = [_plain(name) for name in classes]
    same = sum(own == _plain(name) for own, (_, name) in zip(plain, table, strict=False))
    if len(plain) == len(table) and same >= _SAME * len(table):
        # by the place, because "crane" is the name of two classes where synonyms are left out
        return {each: number for number, pair in enumerate(table) for each in pair}
    by_name = {_plain(each): pair for pair in table for each in pair}
    found: dict[str, int] = {}
    for number, name in enumerate(plain):
        for each in by_name.get(name, ()):
            found.setdefault(each, number)
    return found


def _plain(name: str) -> str:
    """Return a name without its synonyms, in lower case and with spaces."""
    return name.partition(",")[0].replace("_", " ").strip().lower()


@cache
def _table() -> tuple[tuple[str, str], ...]:
    lines = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines)
    return tuple((wnid, name) for wnid, _, name in pairs)
