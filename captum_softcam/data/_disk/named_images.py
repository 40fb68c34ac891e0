"""Find the pictures that annotations and tables name, as they lie on this disk."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from captum_softcam._names import listed, named, quoted, shown
from captum_softcam.data._disk.files import DICOM_ENDINGS, ENDINGS, existing_folder, folded, list_images, without_ending

__all__ = ["NamedImage", "NamedImages"]

_AROUND = 4  # folders around the images in which a name is looked for, to tell that they were not passed


class NamedImage(NamedTuple):
    """A picture: its file, and the name that samples have from it, which holds no path of this machine."""

    file: Path
    name: str


class NamedImages:
    r"""The pictures of a folder, looked up by the names that annotations give them.

    In this order, the picture ``sub/p1.png`` below the folder is found

    1. by its name, ``sub/p1.png`` or ``sub\p1.png``, or its absolute path;
    2. without its ending, with another one, in other case or another form of Unicode, if no other picture could be meant;
       a converted copy is taken rather than the DICOM file beside it;
    3. by ``p1`` or ``p1.png`` alone, if no other picture below the folder has that name;
    4. by a path from a folder around it, such as ``images/sub/p1.png``;
    5. by a path of another place that contains the folder's own name, such as ``/home/me/images/sub/p1.png``, if all such
       paths begin alike. This is said by a warning.

    Any other path that is absolute or contains ``..`` is refused unless that is allowed.

    Cost: the folder is listed once, at the first name that is not that of a file.

    Args:
        folder (path): the folder that the names are relative to.
        allow_outside (bool): whether a name may lead out of the folder; None refuses it without the advice to pass True.
            Default: None

    Raises:
        FileNotFoundError: if there is no such folder.
    """

    def __init__(self, folder: Path, allow_outside: bool | None = None) -> None:
        self._folder = existing_folder(folder, "image folder")
        self._allow_outside = allow_outside
        self._elsewhere = ""  # what all paths of another place begin with

    def find(self, name: str, where: str) -> NamedImage:
        """Return the picture of a name.

        Args:
            name (str): as the annotation has it, perhaps written on another system.
            where (str): the place that contains it, for error messages.

        Raises:
            FileNotFoundError: if there is no such image.
            ValueError: if it could be either of two, or the name leads out of the folder, and that is not allowed.
        """
        path = PureWindowsPath(name)  # splits at both kinds of slashes
        below = self._below(name) if path.anchor or ".." in path.parts else name
        if below is None and self._allow_outside and (file := _with_any_ending(self._folder / name)):
            return NamedImage(file, name)
        if below is not None and (file := self._inside(below, where)):
            return NamedImage(file, _slashes(below))
        if below is not None and (file := self._around(below, where)):
            return NamedImage(file, _slashes(below))
        if found := self._moved(name, where):
            return found if below is None else NamedImage(found.file, _slashes(name))
        if below is None and not self._elsewhere:
            self._refuse_outside(name, where)
        raise FileNotFoundError(
            f"{where} names the image '{named(name)}', which is not in '{shown(self._folder)}', with any ending."
        )

    def _below(self, name: str) -> str | None:
        """Return the part of an absolute path behind the folder, if it lies below it."""
        if not os.path.isabs(name) or ".." in PureWindowsPath(name).parts:
            return None
        for folder in (os.path.abspath(self._folder), os.path.realpath(self._folder)):
            if name.startswith(folder + os.sep):
                return name[len(folder) + 1 :]
        return None

    def _inside(self, name: str, where: str) -> Path | None:
        """Return the picture of a relative name, or None."""
        for each in dict.fromkeys((name, _slashes(name))):
            if os.path.isfile(os.path.join(self._folder, each)):
                return self._folder / each
        name = _slashes(name)
        index = self._by_path if "/" in name or _folded(name) in self._by_path else self._by_name
        found = index.get(_folded(name), [])
        # "a" and "A" may be two pictures, where letters tell
        found = [each for each in found if f"/{without_ending(each)}".endswith(f"/{name}")] or found
        # a DICOM file beside its converted copy is not a second candidate
        found = [each for each in found if not each.lower().endswith(DICOM_ENDINGS)] or found
        if len(found) > 1:
            raise ValueError(f"{where} names the image '{named(name)}', which could be {listed(found)}; keep one of them.")
        return self._folder / found[0] if found else None

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return _index(list_images(self._folder).images, "/")

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _index((name for names in self._by_path.values() for name in names), "")

    def _around(self, name: str, where: str) -> Path | None:
        """Return the picture of a name that is relative to a folder around this one, or None.

        Raises:
            FileNotFoundError: if it is, and leads to a picture that is not below this folder.
        """
        name = _slashes(name)
        for folder in self._parents if "/" in name else ():
            file = os.path.join(folder, name)
            if os.path.isfile(file):
                if (below := self._below(file)) is not None:
                    return self._folder / below
                raise FileNotFoundError(
                    f"{where} names the image '{named(name)}', which lies below '{shown(folder)}', not below "
                    f"'{shown(self._folder)}'; pass that folder as images (--images)."
                )
        return None

    @cached_property
    def _parents(self) -> list[str]:
        return [str(folder) for folder in Path(os.path.abspath(self._folder)).parents][:_AROUND]

    def _moved(self, name: str, where: str) -> NamedImage | None:
        """Return the picture of a path that was written where the folder lay elsewhere."""
        own, parts = folded(Path(os.path.abspath(self._folder)).name), PureWindowsPath(name).parts
        for end in (i for i, part in enumerate(parts, 1) if folded(part) == own and ".." not in parts[i:]):
            tail, head = "/".join(parts[end:]), PureWindowsPath(*parts[:end]).as_posix()
            if not tail or not (file := self._inside(tail, where)):
                continue
            if self._elsewhere not in ("", head):  # of two pictures with one name, both would be the one that is here
                raise ValueError(
                    f"{where} names the image '{named(name)}' and others below '{shown(self._elsewhere)}'; both cannot be "
                    f"the folder '{shown(self._folder)}': use paths relative to it."
                )
            if not self._elsewhere:
                warnings.warn(
                    "images are named by paths of another place; they are read from the part behind the name of the "
                    "image folder.",
                    stacklevel=1,
                )
            self._elsewhere = head
            return NamedImage(file, tail)
        return None

    def _refuse_outside(self, name: str, where: str) -> None:
        # An annotation from elsewhere could make any image on this machine part of a report. Links are the user's own.
        parts = PureWindowsPath(name).parts
        tails = ("/".join(parts[start:]) for start in range(1, len(parts)) if ".." not in parts[start:])
        here = next((tail for tail in tails if os.path.isfile(self._folder / tail)), None)
        hint = f", such as {quoted(here)}" if here else ""
        unless = ", or allow it by allow_outside=True (--allow-outside)" if self._allow_outside is False else ""
        raise ValueError(
            f"{where} names the image {quoted(name)}, which is not below its folder; use a path relative to that "
            f"folder{hint}{unless}."
        )


def _index(names: Iterable[str], separator: str) -> dict[str, list[str]]:
    """Map folded names without ending to names; without a separator, the name of the file alone counts."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[_folded(name if separator else name.rpartition("/")[2])].append(name)
    return found


def _slashes(name: str) -> str:
    name = name.replace("\\", "/")
    return PurePosixPath(name).as_posix() if "/" in name else name


def _folded(name: str) -> str:
    return folded(without_ending(name))


def _with_any_ending(path: Path) -> Path | None:
    files: Iterator[Path] = (Path(f"{path}{ending}") for ending in ("", *ENDINGS))
    return next((file for file in files if os.path.isfile(file)), None)
