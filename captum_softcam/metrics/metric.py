"""What a metric of the comparison is: a function of one method's maps of a batch, with all that a table says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from captum_softcam.metrics.batch import PATCHES, Explanation
from captum_softcam.metrics.functional import area_under_curve

__all__ = ["Curve", "Metric"]


@dataclass(frozen=True)
class Curve:
    """Probability of the class while evidence goes or comes; its area is the score.

    Args:
        points (Tensor): (N, S + 1).
        fractions (Tensor): share of the patches that is replaced at each point, (S + 1,).
    """

    points: Tensor
    fractions: Tensor

    @property
    def area(self) -> Tensor:
        """Area under each curve, (N,)."""
        return area_under_curve(self.points, self.fractions)


@dataclass(frozen=True)
class Metric:
    """One column of a comparison.

    Args:
        name (str): the metric's name in files and on the command line.
        title (str): the same for a table's head.
        category (str): ``"localisation"`` asks whether the map lies on the mask, ``"faithfulness"`` whether the model
            needs what the map marks, ``"complexity"`` how much of the image it marks.
        higher_is_better (bool): the direction.
        source (str): the citation key.
        forwards (int): model runs per image and method.
        function (callable): :class:`Explanation` -> scores (N,), NaN where undefined, or a :class:`Curve`.
        settings (mapping): its keyword arguments, as JSON can hold them; numbers of patches are for 64, and fall with them
            on images of fewer, see :meth:`settings_for`. Default: none
        origin (str): ``"ours"``; ``"quantus"`` if a class of Quantus does the work; ``"corrected"`` if Quantus has the
            metric but gets it wrong. Default: ``"ours"``
        attributions (int): further maps per image and method. Default: 0
        default (bool): whether a comparison takes it unasked. Default: False
    """

    name: str
    title: str
    category: Literal["localisation", "faithfulness", "complexity"]
    higher_is_better: bool
    source: str
    forwards: int
    function: Callable[..., Tensor | Curve]
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: Literal["ours", "quantus", "corrected"] = "ours"
    attributions: int = 0
    default: bool = False

    @property
    def cost(self) -> str:
        """What it takes per image and method, in words such as "1 forward, 1 map"."""
        counts = {"forward": self.forwards, "map": self.attributions}
        return ", ".join(f"{count} {unit}{'s' * (count > 1)}" for unit, count in counts.items() if count) or "none"

    def settings_for(self, explanation: Explanation) -> dict[str, Any]:
        """The settings for images that may be too small for 64 patches.

        Args:
            explanation (Explanation): the maps with the batch that they explain.

        Returns:
            dict: the settings; what counts patches is the same fraction of those that there are, and no side has more
            patches than positions.
        """
        counts, size = explanation.batch.counts, explanation.maps.shape[2:]
        return {name: _FITTED.get(name, _as_it_is)(value, counts, size) for name, value in self.settings.items()}

    def measure(self, explanation: Explanation) -> Tensor | Curve:
        """Score one method's maps of a batch.

        Args:
            explanation (Explanation): the maps with the batch that they explain.

        Returns:
            Tensor or Curve: one score per sample, (N,), or the curves whose areas are the scores; NaN where undefined.

        Raises:
            ValueError: as the function behind it does, for settings or maps that do not fit.
        """
        return self.function(explanation, **self.settings_for(explanation))


def _as_it_is(value: Any, _counts: Sequence[int], _size: Sequence[int]) -> Any:
    return value


def _share(value: int, counts: Sequence[int], _size: Sequence[int]) -> int:
    """The same fraction of the patches, where there are fewer than 64."""
    return max(1, value * min(PATCHES, math.prod(counts)) // PATCHES)


def _shares(values: Sequence[int], counts: Sequence[int], size: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(_share(value, counts, size) for value in values))


def _within(values: Sequence[int], counts: Sequence[int], _size: Sequence[int]) -> list[int]:
    """The sides of squares that fit."""
    return [value for value in values if value <= min(counts)] or [1]


def _per_side(value: int | None, _counts: Sequence[int], size: Sequence[int]) -> int | None:
    return value if value is None else min(value, *size)


_FITTED: dict[str, Callable[[Any, Sequence[int], Sequence[int]], Any]] = {
    "regions_evaluation": _share,
    "subset_size": _share,
    "sizes": _shares,
    "sides": _within,
    "patches": _per_side,
}
