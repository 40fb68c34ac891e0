"""Verdicts on the metrics of Quantus 0.6, each read and run on RGB images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captum_softcam.metrics.metric import Category

__all__ = ["VERDICTS", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """Verdict on one metric of Quantus.

    Args:
        name (str): name of its class in Quantus.
        category (str): the family, as in :data:`Category`.
        verdict (str): ``"runs"`` if its numbers are right with suitable settings; ``"corrected"`` if they are wrong, and a
            metric of this package computes them rightly; ``"refused"`` if the idea cannot be corrected.
        reason (str): the settings, the fault, or the reason of the refusal; empty if there is nothing besides ``spared``.
        instead (str): the metric of ``METRICS`` to use; None where there is none, as for those that are refused.
        column (bool): whether it can be a column, because it gives a score of one sample under any method. Default: True
        higher_is_better (bool): the direction, where the one that Quantus declares is wrong. Default: None, it is right
        spared (str): faults that a column is spared, because it measures each sample by itself, with the same random
            numbers and with the arguments that fit the model. Default: none
    """

    name: str
    category: Category
    verdict: Literal["runs", "corrected", "refused"]
    reason: str
    instead: str | None = None
    column: bool = True
    higher_is_better: bool | None = None
    spared: str = ""

    @property
    def text(self) -> str:
        """All that is known of the metric in a script of Quantus."""
        return " ".join(filter(None, (self.spared, self.reason)))


_APART = "Perturbs the channels of a pixel separately. On a board of patches, its numbers equal ours."
_TRAPEZOID = "Its area needs numpy.trapz, which numpy 2.4 removed."

_FAITHFULNESS = (
    Verdict(
        "FaithfulnessCorrelation",
        "faithfulness",
        "corrected",
        "By default it perturbs 224 values of single channels, which yields noise.",
        "faithfulness_correlation",
        spared="Draws other subsets for each sample of a batch, so that a score depends on the place in the batch, and by "
        "default returns one number for all samples.",
    ),
    Verdict("FaithfulnessEstimate", "faithfulness", "runs", _APART, "faithfulness_estimate"),
    Verdict(
        "Infidelity",
        "faithfulness",
        "corrected",
        "Its perturbations are not random: patches are removed from the top left, each in addition to those before, and "
        "every one of its n_perturb_samples rounds is the same.",
        "infidelity",
    ),
    Verdict("IROF", "faithfulness", "corrected", "Raises on RGB images.", "irof", spared=_TRAPEZOID),
    Verdict(
        "Monotonicity",
        "faithfulness",
        "corrected",
        "Always True: it starts from the baseline and replaces it by the baseline.",
        "monotonicity",
    ),
    Verdict(
        "MonotonicityCorrelation",
        "faithfulness",
        "corrected",
        "",
        "monotonicity_correlation",
        spared="Raises when one probability of a batch is below 1e-5 and another is not.",
    ),
    Verdict("PixelFlipping", "faithfulness", "runs", f"{_APART} Returns a curve. {_TRAPEZOID}", "pixel_flipping"),
    Verdict(
        "RegionPerturbation",
        "faithfulness",
        "runs",
        "Returns a curve of drops. With the strongest first, higher is better, but it declares lower.",
        "region_perturbation",
        higher_is_better=True,
    ),
    Verdict(
        "ROAD",
        "faithfulness",
        "corrected",
        "Raises on RGB images.",
        "road",
        spared="Reads only the first batch, and returns accuracies, not a score of each sample.",
    ),
    Verdict("Selectivity", "faithfulness", "runs", f"Returns a curve. {_TRAPEZOID}", "selectivity"),
    Verdict(
        "SensitivityN",
        "faithfulness",
        "corrected",
        "Reads only the first batch, and correlates over the samples at each step, not over the subsets of a sample.",
        "sensitivity_n",
        column=False,
    ),
    Verdict(
        "Sufficiency",
        "faithfulness",
        "refused",
        "The score of a sample depends on which other samples of its batch have similar maps.",
        column=False,
    ),
    Verdict(
        "BatchSufficiency",
        "faithfulness",
        "refused",
        "The same as Sufficiency; raises on a batch of several images.",
        column=False,
    ),
)

_LOCALISATION = (
    Verdict(
        "AttributionLocalisation",
        "localisation",
        "corrected",
        "Reads magnitudes by default, so that negative relevance counts as positive. It is the relevance mass.",
        "relevance_mass_accuracy",
        spared="weighted=True depends on the batch size.",
    ),
    Verdict("AUC", "localisation", "runs", "Right as it is, for signed maps too.", "pixel_auc"),
    Verdict(
        "Focus",
        "localisation",
        "corrected",
        "Needs mosaics that are made elsewhere, two of their four images of the class, and their layout as custom_batch.",
        "grid_pointing_game",
        column=False,
    ),
    Verdict(
        "PointingGame",
        "localisation",
        "corrected",
        "Of equal peaks any may hit, on a plateau all of them; weighted=True raises.",
        "pointing_game",
        spared="An empty mask is a hit.",
    ),
    Verdict(
        "RelevanceMassAccuracy",
        "localisation",
        "corrected",
        "Divides sums of signed values: not a fraction, but below 0 or above 1 where a map has negative values.",
        "relevance_mass_accuracy",
    ),
    Verdict(
        "RelevanceRankAccuracy",
        "localisation",
        "corrected",
        "Equal values are ranked by their position.",
        "relevance_rank_accuracy",
    ),
    Verdict(
        "TopKIntersection",
        "localisation",
        "corrected",
        "Reads 1000 positions whatever the size of the mask, and raises if the image has fewer.",
        "top_k_intersection",
    ),
)

_DRAWS = "Draws other noise for each sample of a batch."
_NOISE = "Its noise is in units of the input, whatever the images are scaled to."
_ONE_SIGN = (
    "Its noise only brightens; where a map is 0, it divides by 1e-6; and a single noisy version with another prediction "
    "makes the score NaN."
)

_ROBUSTNESS = (
    Verdict("MaxSensitivity", "robustness", "corrected", _NOISE, "max_sensitivity", spared=_DRAWS),
    Verdict("AvgSensitivity", "robustness", "corrected", _NOISE, "avg_sensitivity", spared=_DRAWS),
    Verdict(
        "LocalLipschitzEstimate",
        "robustness",
        "corrected",
        f"{_NOISE} Maps are scaled to a maximum of 1, images are not, so that the ratio has the unit of the input.",
        "local_lipschitz_estimate",
        spared=_DRAWS,
    ),
    Verdict(
        "Continuity",
        "robustness",
        "corrected",
        "Compares the map of a shifted image with the map at its old place: a map that ignores the image has the best "
        "score, one that follows it has not. Its first steps shift the image out of sight, and perturb_func is ignored.",
        "continuity",
    ),
    Verdict(
        "Consistency",
        "robustness",
        "refused",
        "The score of a sample depends on which other samples of its batch have similar maps, and is 0 without others. "
        "Higher is better, but it declares lower.",
        column=False,
        higher_is_better=True,
    ),
    Verdict("RelativeInputStability", "robustness", "corrected", _ONE_SIGN, "relative_input_stability"),
    Verdict("RelativeOutputStability", "robustness", "refused", _ONE_SIGN),
    Verdict(
        "RelativeRepresentationStability",
        "robustness",
        "refused",
        f"{_ONE_SIGN} So does a unit that is 0 before the noise, as half of those behind a ReLU are.",
    ),
)

_RANDOMISATION = (
    Verdict(
        "MPRT",
        "randomisation",
        "corrected",
        "Parameters of modules without reset_parameters stay as trained, and layers are initialised as before a training, "
        "at which the maps of deep networks become flat.",
        "mprt",
        spared="Its average counts the network that is not randomised.",
    ),
    Verdict(
        "SmoothMPRT",
        "randomisation",
        "refused",
        "It never calls the explain_func: whatever the method is, it measures the gradients that quantus.explain computes.",
        column=False,
    ),
    Verdict(
        "EfficientMPRT",
        "randomisation",
        "runs",
        "Compares the histogram of a map's values before and after, not their places.",
    ),
    Verdict(
        "RandomLogit",
        "randomisation",
        "corrected",
        "Reads a map as one line, in windows that run from the end of a row into the next.",
        "random_logit",
        spared="Chooses among 1000 classes unless it is told their number, and seeds NumPy for the whole process.",
    ),
)

_AXIOMATIC = (
    Verdict(
        "Completeness",
        "axiomatic",
        "corrected",
        "Asks whether two rounded sums are equal, by default of a map that is scaled to a maximum of 1: it is False of "
        "every method.",
        "completeness",
    ),
    Verdict(
        "NonSensitivity",
        "axiomatic",
        "corrected",
        "Needs a forward for each value of the image, 150,528 at 224 x 224, because features_in_step above 1 raises.",
        "insensitivity",
    ),
    Verdict(
        "InputInvariance",
        "axiomatic",
        "refused",
        "Needs a network whose first module is a convolution with a bias and without padding: it raises without the bias, "
        "and shifts by the value at the border with padding.",
    ),
)

_COMPLEXITY = (
    Verdict("Complexity", "complexity", "runs", "Right as it is, the entropy of the magnitudes.", "complexity"),
    Verdict(
        "EffectiveComplexity",
        "complexity",
        "corrected",
        "Counts the values above 1e-5 of the largest, which are nearly all, and never asks the model how many it needs.",
        "effective_complexity",
    ),
    Verdict(
        "Sparseness",
        "complexity",
        "corrected",
        "Adds 1e-7 to every value, which distorts the score of small ones.",
        "sparseness",
    ),
)

VERDICTS: dict[str, Verdict] = {
    verdict.name: verdict
    for verdict in (*_FAITHFULNESS, *_ROBUSTNESS, *_LOCALISATION, *_RANDOMISATION, *_AXIOMATIC, *_COMPLEXITY)
}
"""Verdicts on all metrics of Quantus 0.6, by class name."""
