"""What a conversion to a SoftCAM model found, replaced and changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Conversion"]


@dataclass(frozen=True)
class Conversion:
    """The record that ``SoftCamModel.conversion`` holds; ``print`` it.

    Args:
        source (str): class of the model, with its module.
        pooling (str): the step that moved behind the classifier.
        replaced (tuple of str): each layer of the head and what it became.
        exact (bool): whether the logits are those of the source, up to rounding: of the largest logit or evidence, at most
            1e-5 in float32, 1e-10 in float64, 0.01 in float16, 0.05 in bfloat16, and 0.01 where a GPU rounds to TF32.
        reason (str): why not, if not; else empty.
        difference (float): largest logit difference on the example or the inputs made up in its place, in eval mode. None if
            nothing was checked, or for new classes.
        largest (float): largest logit of the source there, for comparison.
        input_size (tuple of int): (H, W) of the example. None without
        grid (tuple of int): (h, w) of its evidence. None without
        dilated (tuple of str): layers that gave up their stride for ``output_stride``, or read a finer map.
        left_out (tuple of str): children of the source that the converted model has no use for, such as auxiliary heads.
        num_classes (int): asked for, as a new head. None if the source's were kept
        output_stride (int): asked for. None if not
        checked (str): the inputs on which the conversion was compared with the source, or why on none.
    """

    source: str
    pooling: str
    replaced: tuple[str, ...]
    exact: bool
    reason: str = ""
    difference: float | None = None
    largest: float | None = None
    input_size: tuple[int, ...] | None = None
    grid: tuple[int, ...] | None = None
    dilated: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    num_classes: int | None = None
    output_stride: int | None = None
    checked: str = ""

    @classmethod
    def of(cls, record: dict[str, Any]) -> Conversion:
        """Read a record from JSON, in which tuples have become lists.

        Args:
            record (dict): the fields by name.

        Returns:
            Conversion: the record.

        Raises:
            TypeError: if a field is missing, or one is unknown.
        """
        known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**known)

    def __str__(self) -> str:
        lines = [
            ("source", self.source),
            ("pooling", f"{self.pooling}, now last"),
            *(("head", change) for change in self.replaced),
            ("dilated", self._dilated()),
            ("left out", ", ".join(self.left_out)),
            ("evidence", self._evidence()),
            ("logits", "unchanged up to rounding" if self.exact else f"changed: {self.reason}"),
            ("difference", self._difference()),
            ("checked", self.checked),
        ]
        return "\n".join(f"{title:<11}{text}" for title, text in lines if text)

    def _dilated(self) -> str:
        shown = ", ".join(self.dilated[:3])
        return shown if len(self.dilated) <= 3 else f"{shown}, … ({len(self.dilated)} layers)"

    def _difference(self) -> str:
        if self.difference is None:
            return ""
        where = "the example" if self.input_size else "inputs that were made up"
        return f"{self.difference:.2g} at most on {where}, where the largest logit is {self.largest:.2g}"

    def _evidence(self) -> str:
        if self.grid is None or self.input_size is None:
            return ""
        return f"{' x '.join(map(str, self.grid))} for an input of {' x '.join(map(str, self.input_size))}"
