"""Annotations in the XML format of PASCAL VOC, which ImageNet and many tools write as well.

They differ in the number of the first pixel. Both corners belong to the box.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from captum_softcam._names import named, reason, shown
from captum_softcam.data._disk.files import existing_file
from captum_softcam.data._disk.tables import finite_number, label_in
from captum_softcam.data._pixels.regions import Box

__all__ = ["PascalAnnotation", "PascalObject", "read_pascal_xml"]


_DIFFICULT = {"0": False, "1": True, "": False, "false": False, "true": True, "unspecified": False}


class PascalObject(NamedTuple):
    """One object: the name of its class, its box, and whether it is marked as difficult."""

    name: str
    box: Box
    difficult: bool


class PascalAnnotation(NamedTuple):
    """The content of a file: width and height of the image, or None, and the objects."""

    size: tuple[int, int] | None
    objects: list[PascalObject]


def read_pascal_xml(path: Path, first_pixel: int) -> PascalAnnotation:
    """Read an annotation.

    Args:
        path (path): the XML file.
        first_pixel (int): the number of the first pixel of a row or column: 1 in PASCAL VOC, 0 in ImageNet.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not XML, or a part is missing or wrong; the message names the file and the place in it.
    """
    existing_file(path, "annotation")
    try:
        root = ElementTree.parse(path, ElementTree.XMLParser(target=_WithoutEntities())).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"annotation '{shown(path)}' cannot be read as XML ({reason(error)}).") from error
    if root.tag != "annotation":
        raise ValueError(f"annotation '{shown(path)}' begins with <{named(root.tag)}>; expected <annotation>.")
    places = ((f"object {i} of '{shown(path)}'", element) for i, element in enumerate(root.findall("object"), 1))
    return PascalAnnotation(_size(root, path), [_object(element, where, first_pixel) for where, element in places])


class _WithoutEntities(ElementTree.TreeBuilder):
    """Builder that refuses a DTD, because its entities can grow a file a hundredfold in memory."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 (signature of the parser)
        raise ValueError("it has a DOCTYPE, which annotations do not need")


def _size(root: ElementTree.Element, path: Path) -> tuple[int, int] | None:
    """Return width and height; None without them, or with 0 or -1, which some tools write."""
    size = root.find("size")
    if size is None:
        return None
    width, height = (int(_number(size, name, f"the size in '{shown(path)}'")) for name in ("width", "height"))
    return (width, height) if min(width, height) > 0 else None


def _object(element: ElementTree.Element, where: str, first_pixel: int) -> PascalObject:
    name = _text(element, "name", where)
    difficult = label_in(element.findtext("difficult", "").strip().lower())  # ImageNet leaves it out
    if difficult not in _DIFFICULT:
        raise ValueError(f"{where} has <difficult>{named(difficult)}</difficult>; expected 0 or 1.")
    return PascalObject(name, _box(element, where, first_pixel), _DIFFICULT[difficult])


def _box(element: ElementTree.Element, where: str, first_pixel: int) -> Box:
    corners = element.find("bndbox")
    if corners is None:
        raise ValueError(f"{where} has no <bndbox>.")
    left, top, right, bottom = (_number(corners, name, where) for name in ("xmin", "ymin", "xmax", "ymax"))
    if right < left or bottom < top:  # equal corners are a box of one pixel
        raise ValueError(f"{where} has the corners ({left:g}, {top:g}) and ({right:g}, {bottom:g}); that is not a box.")
    return Box(left - first_pixel, top - first_pixel, right - first_pixel + 1, bottom - first_pixel + 1)


def _number(element: ElementTree.Element, name: str, where: str) -> float:
    text = _text(element, name, where)
    value = finite_number(text)
    if value is None:
        raise ValueError(f"{where} has <{name}>{named(text)}</{name}>; expected a number.")
    return value


def _text(element: ElementTree.Element, name: str, where: str) -> str:
    text = element.findtext(name, "").strip()
    if not text:
        raise ValueError(f"{where} has no <{name}>.")
    return text
