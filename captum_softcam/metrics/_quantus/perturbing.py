"""Base classes of the metrics that perturb images: the arguments and the results of Quantus' classes of the same names."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_softcam.metrics._quantus.batches import (
    OrderedBatch,
    OrderedExplanation,
    PerturbedBatch,
    by_perturb_func,
    groups_in_order,
)
from captum_softcam.metrics._quantus.metric import QuantusMetric
from captum_softcam.metrics.batch import Batch, Explain, Explanation
from captum_softcam.metrics.metric import Curve

__all__ = ["CurveMetric", "PerturbingMetric"]

_BY_BASELINE = ("batch_baseline_replacement_by_indices", "baseline_replacement_by_indices")
_BY_IMPUTATION = ("noisy_linear_imputation",)


class PerturbingMetric(QuantusMetric):
    """A metric that replaces parts of an image.

    Its features are patches of the image, all channels together. Where an argument of Quantus that counts features is
    given, and ``patches`` are not, they are single positions.
    """

    @property
    def _counts_positions(self) -> bool:
        """Whether the features are single positions."""
        counted = any(self.arguments[name].counts for name in self.asked)
        return counted and self.settings["patches"] is None

    def _batch(self, maps: Tensor, *arguments: Any, **settings: Any) -> Batch:
        """Make a batch with the perturbation of Quantus' arguments."""
        settings["perturb_baseline"] = self._perturbation()
        if "features_in_step" in self.asked and self._counts_positions:
            del settings["patches"]
            return OrderedBatch(*arguments, owners=groups_in_order(maps, self.asked["features_in_step"]), **settings)
        settings["patches"] = self._patches(maps.shape[2:])
        return PerturbedBatch(*arguments, of_positions=self._counts_positions, **settings)

    def _explanation(self, batch: Batch, maps: Tensor, explain: Explain) -> Explanation:
        """Make an explanation, of groups of positions if the batch is."""
        kind = OrderedExplanation if isinstance(batch, OrderedBatch) else Explanation
        return kind(batch, maps, explain)

    def _patches(self, size: Sequence[int]) -> Any:
        """Return the patches of images of a size, None for 64."""
        return list(size) if self._counts_positions else self.settings["patches"]

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor | Curve:
        """Measure a batch by the similarity that was asked for."""
        if "similarity_func" in self.asked:
            more["similarity"] = _by_rows(self.asked["similarity_func"])
        if "perturb_baseline" in self._given:
            more["perturb_baseline"] = "given"  # by the batch
        return super()._measured(explanation, **more)

    def _perturbation(self) -> Any:
        """Return the baseline, or the replacement by a function."""
        func, more = self.asked.get("perturb_func"), self.asked.get("perturb_func_kwargs", {})
        if func is None:
            return self.settings["perturb_baseline"]
        baseline = self._given.get("perturb_baseline", "black")  # the default of Quantus
        if _is_of_quantus(func, _BY_IMPUTATION):
            return "linear"
        if not more and _is_of_quantus(func, _BY_BASELINE):
            return baseline
        return by_perturb_func(func, perturb_baseline=baseline, **more)


class CurveMetric(PerturbingMetric):
    """A metric whose class in Quantus returns a curve of each sample."""

    def custom_preprocess(self, *, model: Any, **data: Any) -> dict[str, Any]:
        """Forget the curves of the call before; called by Quantus."""
        self._scores: list[float] = []
        return super().custom_preprocess(model=model, **data)

    def _answers(self, measured: Tensor | Curve) -> list[Any]:
        """Return the curve of each sample from the first removal on, as Quantus does, or its score."""
        curve = cast(Curve, measured)
        scores: list[float] = self._scores_of(curve).tolist()
        self._scores += scores
        points: list[Any] = curve.points[:, 1:].tolist()
        return scores if self.asked.get("return_scores") or self.asked.get("return_auc_per_sample") else points

    def _scores_of(self, curve: Curve) -> Tensor:
        """Return the score of each curve, its area."""
        return curve.area

    @property
    def get_auc_score(self) -> np.floating[Any]:
        """Mean score of the samples of the last call, such as the area under the curve over the fraction removed."""
        return np.mean(np.asarray(self._scores, np.float64))


def _is_of_quantus(func: Any, names: Sequence[str]) -> bool:
    return getattr(func, "__name__", "") in names and func.__module__.startswith("quantus.")


def _by_rows(similarity: Callable[..., Any]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a similarity of tensors, row by row; NaN where a row is constant or not finite."""

    def of_row(first: NDArray[Any], second: NDArray[Any]) -> float:
        if not np.isfinite([first, second]).all() or not np.ptp(first) or not np.ptp(second):
            return float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(similarity(a=first, b=second))

    def of_rows(first: Tensor, second: Tensor) -> Tensor:
        rows = zip(first.cpu().numpy(), second.cpu().numpy(), strict=True)
        return torch.tensor([of_row(*each) for each in rows]).to(first)

    return of_rows
