"""What becomes of every faithfulness and localisation metric of Quantus 0.6: each was read, and run on RGB images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["VERDICTS", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What became of one metric of Quantus.

    Args:
        name (str): its class in Quantus.
        category (str): ``"faithfulness"`` or ``"localisation"``.
        verdict (str): ``"runs"`` if its numbers hold with settings that are safe; ``"corrected"`` if they do not, and a
            metric of ours puts them right; ``"refused"`` if there is nothing to put right.
        reason (str): which settings, what was wrong, or why not.
        take (str): the metric of ``METRICS`` in its place; None where it is refused.
    """

    name: str
    category: Literal["faithfulness", "localisation"]
    verdict: Literal["runs", "corrected", "refused"]
    reason: str
    take: str | None = None


_APART = "By itself it changes the channels of a pixel apart; on a board of patches it takes whole pixels."
_TRAPEZOID = "Its area needs numpy.trapz, which numpy 2.4 no longer has."

_FAITHFULNESS = (
    Verdict(
        "FaithfulnessCorrelation",
        "faithfulness",
        "corrected",
        "Draws other subsets for each sample of a batch, so that a score depends on its place there. By default it "
        "perturbs 224 single channel values, which is noise, and gives one number for all samples.",
        "faithfulness_correlation",
    ),
    Verdict("FaithfulnessEstimate", "faithfulness", "runs", _APART, "faithfulness_estimate"),
    Verdict(
        "Infidelity",
        "faithfulness",
        "corrected",
        "Its perturbations are not random: patches are taken from the top left, each on top of those before, the same in "
        "every one of its n_perturb_samples rounds.",
        "infidelity",
    ),
    Verdict("IROF", "faithfulness", "corrected", f"Raises on RGB images. {_TRAPEZOID}", "irof"),
    Verdict(
        "Monotonicity",
        "faithfulness",
        "corrected",
        "Always true: it starts from the baseline and replaces that by the baseline.",
        "monotonicity",
    ),
    Verdict(
        "MonotonicityCorrelation",
        "faithfulness",
        "corrected",
        "Raises when one probability of a batch is below 1e-5 and another is not.",
        "monotonicity_correlation",
    ),
    Verdict("PixelFlipping", "faithfulness", "runs", f"{_APART} It gives a curve. {_TRAPEZOID}", "pixel_flipping"),
    Verdict(
        "RegionPerturbation",
        "faithfulness",
        "runs",
        "It gives a curve of drops, of which higher is better with the strongest first; it declares lower.",
        "region_perturbation",
    ),
    Verdict(
        "ROAD",
        "faithfulness",
        "corrected",
        "Raises on RGB images; reads the first batch alone; gives shares of samples and no score of a sample.",
        "road",
    ),
    Verdict("Selectivity", "faithfulness", "runs", f"It gives a curve. {_TRAPEZOID}", "selectivity"),
    Verdict(
        "SensitivityN",
        "faithfulness",
        "corrected",
        "Reads the first batch alone; correlates over the samples at each step and not over the subsets of a sample.",
        "sensitivity_n",
    ),
    Verdict(
        "Sufficiency",
        "faithfulness",
        "refused",
        "The score of a sample depends on the other samples of its batch: on which of them have similar maps.",
    ),
    Verdict(
        "BatchSufficiency", "faithfulness", "refused", "Sufficiency once more, which raises on a batch of several images."
    ),
)

_LOCALISATION = (
    Verdict(
        "AttributionLocalisation",
        "localisation",
        "corrected",
        "Takes magnitudes by default, so that negative evidence counts; weighted=True depends on the batch size. It is the "
        "relevance mass.",
        "relevance_mass_accuracy",
    ),
    Verdict("AUC", "localisation", "runs", "As it is, and with signed maps.", "pixel_auc"),
    Verdict(
        "Focus",
        "localisation",
        "refused",
        "Scores maps of mosaics of four images, two of them of the class: another experiment, without masks.",
    ),
    Verdict(
        "PointingGame",
        "localisation",
        "corrected",
        "An empty mask is a hit; of equal peaks any one may hit, on a plateau all of them; weighted=True raises.",
        "pointing_game",
    ),
    Verdict(
        "RelevanceMassAccuracy",
        "localisation",
        "corrected",
        "Divides sums of signed values: no share, below 0 or above 1, once a map has negative evidence.",
        "relevance_mass_accuracy",
    ),
    Verdict(
        "RelevanceRankAccuracy",
        "localisation",
        "corrected",
        "Equal values are ranked by where they stand.",
        "relevance_rank_accuracy",
    ),
    Verdict(
        "TopKIntersection",
        "localisation",
        "corrected",
        "Looks at 1000 positions whatever the size of the mask, and raises where the image has no more.",
        "top_k_intersection",
    ),
)

VERDICTS: dict[str, Verdict] = {verdict.name: verdict for verdict in (*_FAITHFULNESS, *_LOCALISATION)}
"""What became of the faithfulness and localisation metrics of Quantus 0.6, by their class."""
