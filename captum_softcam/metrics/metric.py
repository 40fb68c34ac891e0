"""A metric of a comparison: a function of one method's maps of a batch, with all that a table shows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from captum_softcam._names import closest, named, quoted
from captum_softcam.metrics.functional import BASELINES

if TYPE_CHECKING:  # names and directions of the metrics are read without torch, which takes seconds to load
    from torch import Tensor

    from captum_softcam.metrics.batch import Explanation

__all__ = ["BASELINES", "Category", "Curve", "Metric", "Scored"]

Category = Literal["localisation", "faithfulness", "robustness", "randomisation", "axiomatic", "complexity"]
"""The families of metrics, named as in Quantus."""

_BASELINE = "perturb_baseline"


@dataclass(frozen=True)
class Curve:
    """Score of the class while patches are removed or inserted; its area is the score.

    Args:
        points (Tensor): (N, S + 1).
        fractions (Tensor): fraction of the patches that is replaced at each point, (S + 1,).
    """

    points: Tensor
    fractions: Tensor

    @property
    def area(self) -> Tensor:
        """Area under each curve, (N,)."""
        from captum_softcam.metrics.functional.perturbation import area_under_curve

        return area_under_curve(self.points, self.fractions)


@dataclass(frozen=True)
class Scored:
    """Scores of which some are missing for a reason, which is recorded for their samples.

    Args:
        scores (Tensor): (N,), NaN where undefined.
        errors (mapping): the reason in words by the place of the sample, such as ``"ValueError: ..."``.
    """

    scores: Tensor
    errors: Mapping[int, str]


@dataclass(frozen=True)
class Metric:
    """One column of a comparison.

    Args:
        name (str): name of the metric in files and on the command line.
        title (str): name of the metric in the head of a table.
        category (str): the family, as Quantus has them. ``"localisation"`` asks whether the map lies on the mask,
            ``"faithfulness"`` whether the model needs what the map marks, ``"robustness"`` whether the map stays alike where
            the image does, ``"randomisation"`` whether it depends on what the model has learned, ``"axiomatic"`` whether it
            satisfies an identity, ``"complexity"`` how much of the image it marks.
        higher_is_better (bool): the direction.
        source (str): the citation key.
        forwards (int): model runs per image and method.
        function (callable): :class:`Explanation` -> scores (N,), NaN where undefined, a :class:`Curve`, or :class:`Scored`
            where samples are refused one by one.
        settings (mapping): keyword arguments of the function, as JSON can hold them; numbers of patches are for 64, and
            shrink on images of fewer, see :meth:`settings_for`. Default: none
        origin (str): ``"ours"``; ``"corrected"`` if Quantus computes the metric wrongly; ``"quantus"`` if Quantus computes
            the column. Default: ``"ours"``
        attributions (int): further maps per image and method. Default: 0
        default (bool): whether a comparison includes it by default. Default: False
        reads (str): what the function reads of the model for the explained class: ``"probability"``, the score that
            ``scores`` makes of the outputs; ``"logit"``, the output itself; ``"prediction"``, whether the class is
            predicted; ``"map"``, nothing but the map. Default: ``""``, not stated
        needs_mask (bool): whether samples without a mask have no score. Default: False
        needs_mosaics (bool): whether the function reads the mosaics of the batch. Default: False
        note (str): a sentence that tables show beside the column. Default: none
    """

    name: str
    title: str
    category: Category
    higher_is_better: bool
    source: str
    forwards: int
    function: Callable[..., Tensor | Curve | Scored]
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: Literal["ours", "corrected", "quantus"] = "ours"
    attributions: int = 0
    default: bool = False
    reads: Literal["map", "probability", "logit", "prediction", ""] = ""
    needs_mask: bool = False
    needs_mosaics: bool = False
    note: str = ""

    @property
    def cost(self) -> str:
        """Cost per image and method in words, such as "1 forward, 1 map"."""
        counts = {"forward": self.forwards, "map": self.attributions}
        return ", ".join(f"{count} {unit}{'s' * (count > 1)}" for unit, count in counts.items() if count) or "none"

    @property
    def perturbs(self) -> bool:
        """Whether the metric replaces parts of the image by what :meth:`with_baseline` chooses."""
        return _BASELINE in self.settings

    def with_baseline(self, baseline: str) -> Metric:
        """Return the metric with another replacement of removed patches, as a column of its own.

        Args:
            baseline (str): ``"blur"``, ``"mean"``, ``"black"``, ``"zero"``, ``"uniform"`` or ``"linear"``, see
                :func:`~captum_softcam.metrics.functional.as_baseline`.

        Returns:
            Metric: ``deletion@mean``, titled "Deletion (mean)"; the metric itself if that is its baseline already.

        Raises:
            ValueError: if the baseline is unknown, the metric has no choice of one, or another one is in its name already.

        Example::

            >>> METRICS["deletion"].with_baseline("mean").name
            'deletion@mean'
        """
        check_baseline(baseline)
        if not self.perturbs:
            raise ValueError(
                f"metric '{named(self.name)}' has no choice of a baseline; leave '@{baseline}' out, or measure one that "
                "replaces parts of the image, such as 'deletion'."
            )
        if self.settings[_BASELINE] == baseline:
            return self
        if "@" in self.name:
            raise ValueError(
                f"metric '{named(self.name)}' has a baseline already; choose another as in "
                f"'{named(self.name.partition('@')[0])}@{baseline}'."
            )
        name, title = f"{self.name}@{baseline}", f"{self.title} ({baseline})"
        return replace(self, name=name, title=title, settings={**self.settings, _BASELINE: baseline})

    def settings_for(self, explanation: Explanation) -> dict[str, Any]:
        """Return the settings, fitted to images that may be too small for 64 patches.

        Args:
            explanation (Explanation): the maps with the batch that they explain.

        Returns:
            dict: the settings; a number of patches is the same fraction of those that there are, and no side has more
            patches than positions.
        """
        from captum_softcam.metrics.patches import fit_settings

        return fit_settings(self.settings, explanation.batch.counts, explanation.maps.shape[2:])

    def measure(self, explanation: Explanation) -> Tensor | Curve | Scored:
        """Score one method's maps of a batch.

        Args:
            explanation (Explanation): the maps with the batch that they explain.

        Returns:
            Tensor, Curve or Scored: one score per sample, (N,), NaN where undefined; or the curves whose areas are the
            scores; or scores with the reasons why some are missing.

        Raises:
            ValueError: as the function behind it does, for settings or maps that do not fit.
        """
        return self.function(explanation, **self.settings_for(explanation))


def check_baseline(baseline: str) -> None:
    """Raise ValueError unless a baseline is known by this name."""
    if baseline not in BASELINES:
        raise ValueError(f"baseline {quoted(baseline)} is unknown. {closest(baseline, BASELINES)}")
