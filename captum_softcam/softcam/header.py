"""The JSON header of a file of a classifier: read from any file, and checked field by field before anything is built."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from captum_softcam._names import quoted, shown
from captum_softcam.softcam.conversion import Conversion

__all__ = ["FORMAT", "KEY", "check_header", "read_header"]

KEY = "captum_softcam"
FORMAT = 1
_MOST = 2**26  # positions of an input, which is made to find the head again
_LARGEST = 2**14  # side of an image
_DTYPES = ("float16", "bfloat16", "float32", "float64")


def read_header(metadata: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    """The header in the metadata of a safetensors file.

    Raises:
        ValueError: if there is none, it is of a newer format, or a field is not what it should be.
    """
    try:
        header = json.loads((metadata or {})[KEY])
        found = header["format"]
    except (KeyError, TypeError, ValueError, RecursionError, IndexError) as error:
        raise ValueError(
            f"'{shown(path)}' is a safetensors file, but captum_softcam did not write it; load its weights into the network "
            "that they belong to, then convert and save that."
        ) from error
    if _whole(found) and found > FORMAT:
        raise ValueError(
            f"'{shown(path)}' has format {quoted(found)} of a newer captum_softcam; this one reads format {FORMAT}."
        )
    check_header(header, path)
    return dict(header)


def check_header(header: dict[str, Any], path: Path) -> None:
    """Raise ValueError unless every field of a header is there and is what it should be."""
    missing = [name for name in _FIELDS if name not in header]
    if missing:
        raise ValueError(f"the header of '{shown(path)}' is damaged: {', '.join(missing)} missing. Save the model again.")
    for name, (valid, expected) in _FIELDS.items():
        if not valid(header[name]):
            raise ValueError(
                f"the header of '{shown(path)}' is damaged: {name} is {quoted(header[name])}; expected {expected}."
            )


def _whole(value: object, least: int = 0, most: int = _LARGEST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _text(value: object) -> bool:
    return isinstance(value, str)


def _real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30


def _list_of(valid: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(map(valid, value))


def _or_none(valid: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or valid(value)


def _size(value: Any) -> bool:
    """Sides of an input or a map: as many as a network can have, and not beyond memory."""
    sides = _list_of(lambda side: _whole(side, 1, _MOST))(value)
    return sides and 0 < len(value) <= 4 and math.prod(value) <= _MOST


def _architecture(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"name", "arguments"} and _text(value["name"]) and _named(value)


def _named(value: dict[str, Any]) -> bool:
    return isinstance(value["arguments"], dict) and len(value["arguments"]) <= 20


def _conversion(value: Any) -> bool:
    needed = {"source", "pooling", "replaced", "exact"}
    if not isinstance(value, dict) or not needed <= value.keys() <= {each.name for each in fields(Conversion)}:
        return False
    return all(_CONVERSION[name](entry) for name, entry in value.items())


_CONVERSION: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("source", "pooling", "reason", "checked"), _text),
    **dict.fromkeys(("replaced", "dilated", "left_out"), _list_of(_text)),
    "exact": lambda value: isinstance(value, bool),
    **dict.fromkeys(("difference", "largest"), _or_none(lambda value: isinstance(value, float) or _real(value))),
    **dict.fromkeys(("input_size", "grid"), _or_none(_size)),
    "num_classes": _or_none(lambda value: _whole(value, 1, _MOST)),
    "output_stride": _or_none(lambda value: _whole(value, 1)),
}

_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda value: _whole(value, 1, FORMAT), f"the number {FORMAT}"),
    "name": (_text, "a text"),
    "architecture": (_or_none(_architecture), "a name and arguments, or null"),
    "softcam": (lambda value: isinstance(value, bool), "true or false"),
    "conversion": (_or_none(_conversion), "the record of a conversion, or null"),
    "dtype": (lambda value: value in _DTYPES, f"one of {', '.join(_DTYPES)}"),
    "classes": (_or_none(_list_of(_text)), "a list of names, or null"),
    "image_size": (_or_none(lambda value: _whole(value, 1)), f"a number from 1 to {_LARGEST}, or null"),
    "mean": (_or_none(_list_of(_real)), "a list of numbers, or null"),
    "std": (_or_none(_list_of(lambda value: _real(value) and value != 0)), "a list of numbers other than 0, or null"),
}
