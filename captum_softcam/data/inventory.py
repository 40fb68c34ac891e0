"""Look at image files and masks before a run, and tell in words what was found and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Found"]


@dataclass(frozen=True)
class Found:
    """What a reader found in folders and tables, without opening a picture.

    Args:
        files (int): number of image files that could have become samples, those that are left out among them.
        masks (int): number of mask files, used or not; 0 where regions come from annotations. Default: 0
        left_out (mapping): names of the files that are not used, by the reason in words, such as ``"no picture format"`` or
            ``"mask without picture"``. Default: none

    Example::

        >>> Found(9, 6, {"no picture format": ["7.jfif", "8.gif"]}).files
        9
    """

    files: int
    masks: int = 0
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
