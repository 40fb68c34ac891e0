"""HTML from Python: what is not markup already is escaped, so that no text of a user's can become markup."""

from __future__ import annotations

import html
import json
import math
from typing import Any

from captum_softcam._names import shown

__all__ = ["Html", "breakable", "element", "json_text", "text"]


class Html(str):
    """Markup, which is not escaped again."""


def element(tag: str, *children: object, **attributes: object) -> Html:
    """``<tag attribute="value">children</tag>``.

    Args:
        tag (str): name of the element.
        *children: markup is taken as it is, any other object as text; None is left out.
        **attributes: ``class_`` is written ``class``, ``data_value`` is ``data-value``; True stands for an attribute without
            a value, and one that is None or False is left out.
    """
    start = "".join(_attribute(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    inner = "".join(text(child) for child in children if child is not None)
    return Html(f"<{tag}{start}>{inner}</{tag}>")


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{text(value)}"'


def text(value: object) -> Html:
    """Text that is safe between tags and between double quotes."""
    return value if isinstance(value, Html) else Html(html.escape(_visible(str(value))))


def _visible(text: str) -> str:
    r"""The same with what cannot be seen as ``\u202e``: control characters, changes of direction, halves of pairs."""
    return text if text.isprintable() else "".join(sign if sign.isspace() else shown(sign) for sign in text)


def breakable(name: str) -> Html:
    """A name that may be broken after its underscores."""
    return Html(text(name).replace("_", "_<wbr>"))


def json_text(data: Any) -> Html:
    """JSON for ``<script type="application/json">``: no ``<`` ends the script early, and no NaN that JSON does not know."""
    dumped = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False, default=str)
    return Html(dumped.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _finite(data: Any) -> Any:
    """The same with None for every number that is not finite, numbers of NumPy as Python's own, and text that is seen."""
    if isinstance(data, dict):
        return {_visible(str(key)): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, str):
        return _visible(data)
    if hasattr(data, "tolist"):  # an array or a number of NumPy or PyTorch
        return _finite(data.tolist())
    return None if isinstance(data, float) and not math.isfinite(data) else data
