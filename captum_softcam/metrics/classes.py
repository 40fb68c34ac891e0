"""The metrics as classes of Quantus, for use in Quantus scripts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from captum_softcam._names import quoted
from captum_softcam.metrics import functional
from captum_softcam.metrics._quantus.batches import OrderedExplanation, PerturbedBatch
from captum_softcam.metrics._quantus.metric import QuantusMetric
from captum_softcam.metrics._quantus.perturbing import CurveMetric, PerturbingMetric
from captum_softcam.metrics._rows.faithfulness import by_order
from captum_softcam.metrics.batch import Batch, Explain, Explanation
from captum_softcam.metrics.metric import Curve, Metric
from captum_softcam.metrics.registry import METRICS

__all__ = [
    "AUC",
    "IROF",
    "MPRT",
    "ROAD",
    "ActivationPrecision",
    "ActivationSensitivity",
    "Adcc",
    "Arcc",
    "AttributionLocalisation",
    "AverageDrop",
    "AvgSensitivity",
    "Coherency",
    "Completeness",
    "Complexity",
    "Continuity",
    "Deletion",
    "EffectiveComplexity",
    "EnergyBasedPointingGame",
    "FaithfulnessCorrelation",
    "FaithfulnessEstimate",
    "FlipSymmetry",
    "Focus",
    "GridPointingGame",
    "IncreaseInConfidence",
    "Infidelity",
    "Insensitivity",
    "Insertion",
    "IouAtBestThreshold",
    "Irof",
    "LocalLipschitzEstimate",
    "MapComplexity",
    "MaxSensitivity",
    "Monotonicity",
    "MonotonicityCorrelation",
    "Mprt",
    "MprtIndependent",
    "MprtSsim",
    "PixelAuc",
    "PixelFlipping",
    "PointingGame",
    "RandomLogit",
    "RegionPerturbation",
    "RelativeInputStability",
    "RelevanceMassAccuracy",
    "RelevanceRankAccuracy",
    "Road",
    "Selectivity",
    "SensitivityN",
    "SingleDeletion",
    "Sparseness",
    "TopKIntersection",
    "TopKLocalisationPrecision",
]


class PointingGame(QuantusMetric, of="pointing_game"):
    """Whether the highest position lies on the mask :cite:p:`zhang2018pointing`.

    Higher is better. Reads the map alone. Cost: no forward.

    Args:
        tolerance (float): largest distance from the mask that counts as a hit, in positions. Default: 0.0
    """


class EnergyBasedPointingGame(QuantusMetric, of="energy_based_pointing_game"):
    """Fraction of the positive relevance that lies on the mask :cite:p:`wang2020scorecam`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


class RelevanceMassAccuracy(QuantusMetric, of="relevance_mass_accuracy"):
    """Fraction of the positive relevance that lies on the mask :cite:p:`arras2022clevr`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


class AttributionLocalisation(RelevanceMassAccuracy, of="relevance_mass_accuracy"):
    """The relevance mass in the spelling of Quantus :cite:p:`arras2022clevr`.

    Higher is better. Reads the map alone. Cost: no forward.
    """

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor:
        """Measure a batch, weighted by the size of the mask if asked."""
        scores = cast(Tensor, super()._measured(explanation, **more))
        masks = explanation.batch.masks.flatten(1)
        return scores * masks.shape[1] / masks.sum(1) if self.asked.get("weighted") else scores


class Focus(RelevanceMassAccuracy, of="relevance_mass_accuracy"):
    """Fraction of the positive relevance that lies on the quarters of a mosaic that show the class :cite:p:`arras2022clevr`.

    Higher is better. Reads the map alone. Cost: no forward. Called as in Quantus, with ``custom_batch``: for each mosaic,
    which of its quarters are of the class, such as (1, 1, 0, 0) for the upper two.
    """

    def __call__(self, *arguments: Any, custom_batch: Sequence[Sequence[int]] | None = None, **call: Any) -> list[float]:
        """Score the mosaics.

        Args:
            *arguments: of :meth:`QuantusMetric.__call__`.
            custom_batch (sequence): for each mosaic, whether its four quarters show the class, 1 or 0: upper left and right,
                lower left and right. It takes the place of masks.
            **call: of :meth:`QuantusMetric.__call__`.

        Returns:
            list of float: one score for each mosaic.

        Raises:
            ValueError: if ``custom_batch`` is missing, and as :meth:`QuantusMetric.__call__` does.
        """
        if custom_batch is None:
            raise ValueError("Focus needs custom_batch: which of the four quarters of each mosaic show the class.")
        images = np.asarray(call["x_batch"] if "x_batch" in call else arguments[1])
        if call.get("channel_first") is False:
            images = np.moveaxis(images, -1, 1)
        quarters = torch.tensor(np.asarray(custom_batch), dtype=torch.float32).view(-1, 1, 2, 2)
        masks = torch.nn.functional.interpolate(quarters, size=images.shape[2:])
        return super().__call__(*arguments, **{**call, "s_batch": masks.numpy()})

    def column(self) -> Metric:
        """Refuse to be a column, because a comparison has no ``custom_batch``.

        Returns:
            Metric: none.

        Raises:
            ValueError: always; ``grid_pointing_game`` is the column.
        """
        raise ValueError("Focus cannot be a column, because it needs custom_batch. Use 'grid_pointing_game'.")


class RelevanceRankAccuracy(QuantusMetric, of="relevance_rank_accuracy"):
    """Fraction of the highest positions, as many as the mask has, that lie on it :cite:p:`arras2022clevr`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


class TopKIntersection(QuantusMetric, of="top_k_intersection"):
    """Fraction of the highest positions that lie on the mask :cite:p:`theiner2022geolocation`.

    Higher is better. Reads the map alone. Cost: no forward.

    Args:
        k (float): number of positions, as a multiple of those of the mask. Default: 0.5
    """

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor:
        """Measure a batch; an int as ``k`` is a number of positions, as in Quantus."""
        maps, masks, k = explanation.maps, explanation.batch.masks, self.settings["k"]
        areas = masks.flatten(1).sum(1)
        if isinstance(k, int):
            scores = self._of_positions(maps, masks, areas, k)
        else:
            scores = cast(Tensor, super()._measured(explanation, **more))
        return scores * masks[0].numel() / areas if self.asked.get("concept_influence") else scores

    def _of_positions(self, maps: Tensor, masks: Tensor, areas: Tensor, k: int) -> Tensor:
        if not 1 <= k <= masks[0].numel():
            raise ValueError(f"k must be from 1 to the number of positions, {masks[0].numel()}; got {quoted(k)}.")
        of_mask = [k / max(1, area) for area in areas.tolist()]
        each = zip(maps.split(1), masks.split(1), of_mask, strict=True)
        return torch.cat([functional.top_k_intersection(one, mask, k=k) for one, mask, k in each])


class PixelAuc(QuantusMetric, of="pixel_auc"):
    """Chance that a position on the mask is higher than one outside :cite:p:`fawcett2006roc`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


AUC = PixelAuc
"""Alias in the spelling of Quantus."""


class ActivationPrecision(QuantusMetric, of="activation_precision"):
    """Fraction of the activation that lies on the mask :cite:p:`djoumessi2026softcam`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


class ActivationSensitivity(QuantusMetric, of="activation_sensitivity"):
    """Fraction of the mask that is activated :cite:p:`djoumessi2026softcam`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


class TopKLocalisationPrecision(QuantusMetric, of="top_k_localisation_precision"):
    """Fraction of the highest patches that touch the mask :cite:p:`djoumessi2026softcam`.

    Higher is better. Reads the map alone. Cost: no forward.

    Args:
        k (int): number of patches. Default: 10
        patches (int): patches per side; None for single positions. Default: 16
    """


class IouAtBestThreshold(QuantusMetric, of="iou_at_best_threshold"):
    """Intersection over union of mask and map at the best threshold :cite:p:`choe2020wsol`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


class Deletion(PerturbingMetric, of="deletion"):
    """Area under the probability while patches are removed, the strongest first :cite:p:`petsiuk2018rise`.

    Lower is better. Reads the probability. Cost: 16 forwards.

    Args:
        steps (int): number of steps from the whole image to none of it. Default: 16
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class Insertion(PerturbingMetric, of="insertion"):
    """Area under the probability while patches are inserted, the strongest first :cite:p:`petsiuk2018rise`.

    Higher is better. Reads the probability. Cost: 16 forwards.

    Args:
        steps (int): number of steps from none of the image to all of it. Default: 16
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class RegionPerturbation(CurveMetric, of="region_perturbation"):
    """Mean drop of the probability while the strongest patches are removed :cite:p:`samek2017evaluating`.

    Higher is better. Reads the probability. Cost: 32 forwards.

    Args:
        regions_evaluation (int): number of patches that are removed, one at a time. Default: 32
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """

    def _patches(self, size: Sequence[int]) -> Any:
        """Return the patches of images of a size, None for 64."""
        return _patches_of_side(size, self.asked["patch_size"]) if self._counts_positions else self.settings["patches"]

    def _explanation(self, batch: Batch, maps: Tensor, explain: Explain) -> Explanation:
        """Make an explanation whose map gives the order."""
        return super()._explanation(batch, self._ordered(maps), explain)

    def _measured(self, explanation: Explanation, **more: Any) -> Curve:
        """Measure the drops after each removal."""
        count = math.prod(explanation.batch.counts)
        default = 100 if self._counts_positions else METRICS[self.row].settings_for(explanation)["regions_evaluation"]
        regions = min(self._given.get("regions_evaluation", default), count)
        settings = {"perturb_baseline": "given", **more, "regions_evaluation": regions}
        points = by_order("region_perturbation_curve", explanation, **settings)
        return Curve(points, torch.arange(regions + 1) / count)

    def _scores_of(self, curve: Curve) -> Tensor:
        """Return the mean drop."""
        return curve.points.mean(1)

    def _ordered(self, maps: Tensor) -> Tensor:
        order = self.asked.get("order", "morf")
        if order == "random":  # the same for every sample
            drawn = torch.rand(maps.shape[1:], generator=torch.Generator().manual_seed(self.settings["seed"]))
            return drawn.to(maps).expand_as(maps)
        return -maps if order == "lerf" else maps


class PixelFlipping(CurveMetric, of="pixel_flipping"):
    """Area under the probability while patches are removed one by one :cite:p:`bach2015pixelwise`.

    Lower is better. Reads the probability. Cost: 64 forwards.

    Args:
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class Selectivity(CurveMetric, of="selectivity"):
    """Area under the probability while squares of patches are removed :cite:p:`montavon2018methods`.

    Lower is better. Reads the probability. Cost: 16 forwards.

    Args:
        patch_size (int): side of the squares, in patches. Default: 2
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """

    def _patches(self, size: Sequence[int]) -> Any:
        """Return the patches of images of a size, None for 64."""
        return _patches_of_side(size, self.asked["patch_size"]) if self._counts_positions else self.settings["patches"]

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor | Curve:
        """Measure a batch; where ``patch_size`` counts positions, the squares are the patches."""
        return super()._measured(explanation, **({"patch_size": 1} if self._counts_positions else {}), **more)


class FaithfulnessCorrelation(PerturbingMetric, of="faithfulness_correlation"):
    """Correlation of the map over random sets of patches with the drops of the logit :cite:p:`bhatt2020evaluating`.

    Higher is better. Reads the logit. Cost: 200 forwards.

    Args:
        subset_size (int): number of patches in a set. Default: 16
        runs (int): number of sets. Default: 200
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class FaithfulnessEstimate(PerturbingMetric, of="faithfulness_estimate"):
    """Correlation of the map over single patches with the drops of the logit :cite:p:`alvarez2018towards`.

    Higher is better. Reads the logit. Cost: 64 forwards.

    Args:
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class SingleDeletion(QuantusMetric, of="single_deletion"):
    """Rank correlation of the map over single cells with the drops of the logit :cite:p:`hesse2024idsds`.

    Higher is better. Reads the logit. Cost: 16 forwards. In-domain only for a model that was fine-tuned with single cells
    set to 0.

    Args:
        cells (int): cells per side. Default: 4
        perturb_baseline (str): what replaces removed cells, see :func:`.as_baseline`. Default: zero
    """


class SensitivityN(PerturbingMetric, of="sensitivity_n"):
    """Mean of the faithfulness correlation over several sizes of the sets :cite:p:`ancona2018towards`.

    Higher is better. Reads the logit. Cost: 200 forwards.

    Args:
        sizes (sequence of int): numbers of patches in a set. Default: [1, 4, 16, 48]
        runs (int): number of sets of each size. Default: 50
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """

    def _batch(self, maps: Tensor, *arguments: Any, **settings: Any) -> Batch:
        """Make a batch of single positions, where the sizes of the sets count them."""
        settings |= {"patches": self._patches(maps.shape[2:]), "perturb_baseline": self._perturbation()}
        return PerturbedBatch(*arguments, of_positions=self._counts_positions, **settings)

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor | Curve:
        """Measure a batch with the sizes that were asked for."""
        if "sizes" in self._given or not self.asked.keys() & {"features_in_step", "n_max_percentage"}:
            return super()._measured(explanation, **more)
        count = math.prod(explanation.batch.counts)
        largest = min(int(self.asked.get("n_max_percentage", 0.8) * count), count - 1)
        if self._counts_positions:
            step = self.asked["features_in_step"]
            return super()._measured(explanation, sizes=range(step, largest + 1, step), **more)
        sizes = METRICS[self.row].settings_for(explanation)["sizes"]
        return super()._measured(explanation, sizes=[min(size, largest) for size in sizes], **more)


class Infidelity(PerturbingMetric, of="infidelity"):
    """Squared error between the map and the drop of the logit without squares of patches :cite:p:`yeh2019infidelity`.

    Lower is better. Reads the logit. Cost: 138 forwards.

    Args:
        sides (sequence of int): sides of the squares, in patches. Default: [1, 2, 4]
        scaled (bool): False to use the map in its own units. Default: True
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor | Curve:
        """Measure a batch; where the sides count positions, with the squares of each side as the patches."""
        measure = super()._measured
        if not self._counts_positions:
            return measure(explanation, **more)
        sides = self.asked["perturb_patch_sizes"]
        each = [measure(self._with_squares(explanation, side), **more, sides=[1]) for side in sides]
        return torch.stack(cast("list[Tensor]", each)).mean(0)

    def _with_squares(self, explanation: Explanation, side: int) -> Explanation:
        batch = explanation.batch
        settings: dict[str, Any] = {"outputs": batch.outputs, "patches": _patches_of_side(batch.images.shape[2:], side)}
        shared = batch.model, batch.images, batch.targets, batch.masks
        again = PerturbedBatch(
            *shared,
            **settings,
            perturb_baseline=self._perturbation(),
            of_positions=False,
            seed=batch.seed,
            scores=batch.scores,
        )
        return Explanation(again, explanation.maps, explanation.explain)


class Monotonicity(PerturbingMetric, of="monotonicity"):
    """Fraction of steps at which the probability does not fall while patches are inserted :cite:p:`arya2019explanation`.

    Higher is better. Reads the probability. Cost: 16 forwards.

    Args:
        steps (int): number of steps from none of the image to all of it. Default: 16
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor | Curve:
        """Measure a batch, with a step for each group of positions."""
        if isinstance(explanation, OrderedExplanation):
            more["steps"] = explanation.batch.counts[0]
        return super()._measured(explanation, **more)

    def _answers(self, measured: Tensor | Curve) -> list[Any]:
        """Return whether the probability falls at none of the steps, as Quantus does; NaN where undefined."""
        scores = super()._answers(measured)
        if self.asked.get("return_scores"):
            return scores
        return [score if math.isnan(score) else score == 1 for score in scores]


class MonotonicityCorrelation(PerturbingMetric, of="monotonicity_correlation"):
    """Rank correlation of the magnitudes of patches with the changes of the logit :cite:p:`nguyen2020quantitative`.

    Higher is better. Reads the logit. Cost: 64 forwards.

    Args:
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class Road(QuantusMetric, of="road"):
    """Accuracy while the strongest positions are imputed, remove and debias :cite:p:`rong2022road`.

    Lower is better. Reads the prediction. Cost: 9 forwards.

    Args:
        fractions (sequence of float): of the positions that are removed. Default: [0.1, 0.2, ... 0.9]
        noise (float): standard deviation of the noise on them. Default: 0.01
    """

    def custom_preprocess(self, *, model: Any, **data: Any) -> dict[str, Any]:
        """Forget the curves of the call before; called by Quantus."""
        self._points: list[list[float]] = []
        return super().custom_preprocess(model=model, **data)

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor | Curve:
        """Measure a batch at the percentages that were asked for."""
        if "percentages" in self.asked:
            more["fractions"] = [percentage / 100 for percentage in self.asked["percentages"]]
        return super()._measured(explanation, **more)

    def _answers(self, measured: Tensor | Curve) -> list[Any]:
        """Return the score of each sample, and keep its curve."""
        self._points += cast(Curve, measured).points[:, 1:].tolist()
        return super()._answers(measured)

    def custom_postprocess(self, **_: Any) -> None:
        """Average over the samples at each percentage, as Quantus does; called by Quantus."""
        if self.asked.get("return_scores") or self.return_aggregate:
            return
        percentages = self.asked.get("percentages") or [round(100 * each) for each in self.settings["fractions"]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of samples that are all undefined
            accuracies = np.nanmean(self._points, 0).tolist()
        self.evaluation_scores = dict(zip(percentages, accuracies, strict=True))


ROAD = Road
"""Alias in the spelling of Quantus."""


class Irof(PerturbingMetric, of="irof"):
    """Area over the probability while superpixels are removed, the strongest first :cite:p:`rieger2020irof`.

    Higher is better. Reads the probability. Cost: 17 forwards.

    Args:
        steps (int): number of steps from the whole image to none of it. Default: 16
        perturb_baseline (str): what replaces removed segments, see :func:`.as_baseline`. Default: mean
    """

    @property
    def get_aoc_score(self) -> np.floating[Any]:
        """Mean score of the samples of the last call."""
        return np.mean(np.asarray(self.evaluation_scores, np.float64))


IROF = Irof
"""Alias in the spelling of Quantus."""


class Arcc(QuantusMetric, of="arcc"):
    """Harmonic mean of ROAD, coherency and one minus the complexity, ARCC :cite:p:`domeniconi2026refine`.

    Higher is better. Reads the probability. Cost: 8 forwards, 1 map.

    Args:
        fractions (sequence of float): of the positions that are imputed. Default: [0.2, 0.4, 0.6, 0.8]
        noise (float): standard deviation of the noise, in units of the images. Default: 0.01
    """


class AverageDrop(QuantusMetric, of="average_drop"):
    """Fraction of the probability that is lost when the image is masked by its map :cite:p:`chattopadhay2018gradcampp`.

    Lower is better. Reads the probability. Cost: 1 forward.
    """


class IncreaseInConfidence(QuantusMetric, of="increase_in_confidence"):
    """Whether the probability rises when the image is masked by its map :cite:p:`chattopadhay2018gradcampp`.

    Higher is better. Reads the probability. Cost: 1 forward.
    """


class Coherency(QuantusMetric, of="coherency"):
    """Correlation of the map with the map of the masked image :cite:p:`poppi2021adcc`.

    Higher is better. Reads the map alone. Cost: 1 map.
    """


class Adcc(QuantusMetric, of="adcc"):
    """Harmonic mean of the probability kept, the coherency and the fraction not marked :cite:p:`poppi2021adcc`.

    Higher is better. Reads the probability. Cost: 1 forward, 1 map.
    """


class MapComplexity(QuantusMetric, of="map_complexity"):
    """Fraction of the image that the map marks, unlike ``quantus.Complexity``, an entropy :cite:p:`poppi2021adcc`.

    Lower is better. Reads the map alone. Cost: no forward.
    """


class Sparseness(QuantusMetric, of="sparseness"):
    """Gini index of the map's magnitudes :cite:p:`chalasani2020concise`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


class GridPointingGame(QuantusMetric, of="grid_pointing_game"):
    """Fraction of the positive relevance in the image's cell of a mosaic with other images :cite:p:`bohle2021coda`.

    Higher is better; a map that ignores the model scores 1/4 on average. Needs no masks, but images of two classes or more:
    the mosaics are made of the first images of each class in ``x_batch``. Reads the map alone. Cost: 1 map.
    """


class Mprt(QuantusMetric, of="mprt"):
    """Rank correlation with the maps of networks whose weights are random, layer after layer :cite:p:`adebayo2018sanity`.

    Lower is better; a map that ignores the model scores 1. One float for each sample, the mean over the stages, where
    ``quantus.MPRT`` returns those of every layer. Reads the map alone. Cost: 4 maps.

    Args:
        stages (int): number of networks, in each of which more layers are random, from the output to the input. Default: 4
    """

    def _refuse_values(self) -> None:
        super()._refuse_values()
        if self.asked.get("return_average_correlation") and self.asked.get("return_last_correlation"):
            raise ValueError("pass return_average_correlation or return_last_correlation; got both.")

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor | Curve:
        """Measure a batch with the layers in the order that was asked for."""
        if self.asked.get("return_last_correlation"):
            more["stages"] = 1  # the network with all weights random
        if self.asked.get("layer_order") == "independent":
            stages = self.settings["stages"]
            return cast(Tensor, METRICS["mprt_independent"].function(explanation, **{"stages": stages, **more}))
        return super()._measured(explanation, **more)


MPRT = Mprt
"""Alias in the spelling of Quantus."""


class MprtIndependent(QuantusMetric, of="mprt_independent"):
    """Rank correlation with the maps of networks in which some layers are random :cite:p:`adebayo2018sanity`.

    Lower is better; a map that ignores the model scores 1. Reads the map alone. Cost: 4 maps.

    Args:
        stages (int): number of networks, each with other random layers. Default: 4
    """


class MprtSsim(QuantusMetric, of="mprt_ssim"):
    """Structural similarity with the maps of networks with random weights, layer after layer :cite:p:`adebayo2018sanity`.

    Lower is better; a map that ignores the model scores 1. Reads the map alone. Cost: 4 maps.

    Args:
        stages (int): number of networks, in each of which more layers are random, from the output to the input. Default: 4
    """


class RandomLogit(QuantusMetric, of="random_logit"):
    """Rank correlation with the map of another class :cite:p:`sixt2020explanations`.

    Lower is better; a map that ignores the class scores 1. Reads the map alone. Cost: 1 map.
    """


class MaxSensitivity(QuantusMetric, of="max_sensitivity"):
    """Largest relative change of the map under noise :cite:p:`yeh2019infidelity`.

    Lower is better. Reads the map alone. Cost: 8 maps.

    Args:
        runs (int): number of noisy images. Default: 8
        radius (float): size of the strongest noise, in standard deviations of each channel of the image. Default: 0.2
    """


class AvgSensitivity(QuantusMetric, of="avg_sensitivity"):
    """Mean relative change of the map under noise :cite:p:`yeh2019infidelity`.

    Lower is better. Reads the map alone. Cost: 8 maps.

    Args:
        runs (int): number of noisy images. Default: 8
        radius (float): size of the strongest noise, in standard deviations of each channel of the image. Default: 0.2
    """


class LocalLipschitzEstimate(QuantusMetric, of="local_lipschitz_estimate"):
    """Largest ratio of the changes of map and image under noise :cite:p:`alvarez2018robustness`.

    Lower is better. Reads the map alone. Cost: 8 maps.

    Args:
        runs (int): number of noisy images. Default: 8
        radius (float): size of the strongest noise, in standard deviations of each channel of the image. Default: 0.2
    """


class RelativeInputStability(QuantusMetric, of="relative_input_stability"):
    """Largest ratio of relative changes while the prediction holds :cite:p:`agarwal2022rethinking`.

    Lower is better. Reads the map alone. Cost: 8 forwards, 8 maps.

    Args:
        runs (int): number of noisy images. Default: 8
        radius (float): size of the strongest noise, in standard deviations of each channel of the image. Default: 0.2
    """


class Continuity(QuantusMetric, of="continuity"):
    """How far the map moves along when the image is translated :cite:p:`montavon2018methods`.

    Higher is better. Reads the map alone. Cost: 4 maps.

    Args:
        shifts (sequence of float): fractions of each side. Default: [-0.125, -0.0625, 0.0625, 0.125]
    """


class Completeness(QuantusMetric, of="completeness"):
    """Error of the sum or mean of the map as an account of the logit :cite:p:`sundararajan2017integrated`.

    Lower is better. Reads the logit. Cost: 1 forward.

    Args:
        total (str): ``"sum"`` or ``"mean"`` for one of the identities. Default: ``"either"``
    """


class FlipSymmetry(QuantusMetric, of="flip_symmetry"):
    """How far the map is mirrored when the image is :cite:p:`crabbe2023evaluating`.

    Higher is better. Reads the map alone. Cost: 1 map.
    """


class Insensitivity(QuantusMetric, of="insensitivity"):
    """Relevance of the patches that the model ignores, relative to the mean :cite:p:`nguyen2020quantitative`.

    Lower is better. Reads the logit. Cost: 64 forwards.

    Args:
        tolerance (float): largest change of an ignored patch, as a fraction of the largest of all. Default: 0.1
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class Complexity(QuantusMetric, of="complexity"):
    """Entropy of the map's magnitudes, in nats :cite:p:`bhatt2020evaluating`.

    Lower is better. Reads the map alone. Cost: no forward.
    """


class EffectiveComplexity(QuantusMetric, of="effective_complexity"):
    """Smallest fraction of the image that the model needs :cite:p:`nguyen2020quantitative`.

    Lower is better. Reads the probability. Cost: 16 forwards.

    Args:
        steps (int): number of steps from none of the image to all of it. Default: 16
        tolerance (float): fraction of the probability that may be lost. Default: 0.1
        perturb_baseline (str): what replaces hidden patches, see :func:`.as_baseline`. Default: blur
    """


def _patches_of_side(size: Sequence[int], side: int) -> list[int]:
    """Return the number of patches along each dimension whose sides are nearest to one in positions."""
    return [max(1, round(length / side)) for length in size]
