"""Arguments of Quantus' classes that ours of the same names take, and the differences that are left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DROP_INS", "Argument", "DropIn"]


@dataclass(frozen=True)
class Argument:
    """An argument of a class of Quantus.

    Args:
        text (str): what it does here.
        setting (str): the setting of ours that it is another name of. Default: none
        counts (bool): whether it counts features, which are then single positions. Default: False
        values (tuple): the values that it takes, functions by their name. Default: any
        returns_scores (bool): whether it asks for the score of a comparison. Default: False
        typed (bool): whether a float is the setting of that name, and an int something else. Default: False
    """

    text: str
    setting: str = ""
    counts: bool = False
    values: tuple[Any, ...] = ()
    returns_scores: bool = False
    typed: bool = False

    def alters(self, value: Any) -> bool:
        """Whether a value changes the score of a comparison other than as a setting does."""
        without = value is False or len(self.values) == 1 or self.returns_scores or self.text.startswith("has no effect")
        return not (without or self.setting or (self.typed and isinstance(value, float)))


@dataclass(frozen=True)
class DropIn:
    """A class of ours with the name of one of Quantus.

    Args:
        differences (str): what differs from Quantus' class with the arguments of Quantus.
        arguments (mapping): arguments of Quantus by name, besides those that are settings of ours and have their meaning.
            Default: none
    """

    differences: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


_PERTURB = {
    "perturb_func": Argument(
        "a function ``(arr=, indices=, perturb_baseline=, ...)`` -> array, which replaces the values ``indices`` (1, I) of "
        "an image (1, F). Quantus' own replacements by a baseline and by imputation are taken as a ``perturb_baseline``."
    ),
    "perturb_func_kwargs": Argument("further arguments of ``perturb_func``."),
}
_SIMILARITY = {"similarity_func": Argument("a function ``(a=, b=)`` -> number, in place of the correlation.")}
_STEP = {
    "features_in_step": Argument(
        "number of positions that are replaced together, in the order of the map, all channels at once.", counts=True
    )
}
_SCORES = {"return_scores": Argument("True for one number per sample, the score of a comparison.", returns_scores=True)}
_AREA = {"return_auc_per_sample": Argument("the same as ``return_scores``.", returns_scores=True)}
_FRACTION = {"return_scores": Argument("True for the fraction of steps, the score of a comparison.", returns_scores=True)}
_SIDE = "side of the patches in positions, in place of ``patches``."
_FEATURES = "Features are 64 patches, or positions with all channels where an argument of Quantus counts features."
_BLUR = "Removed parts are blurred, not black, unless ``perturb_baseline`` says otherwise."
_EXPECTED = "For ties, the expected value; NaN for a map that ranks nothing."

_NOISE = {
    "nr_samples": Argument("the same as ``runs``.", setting="runs"),
    "perturb_func": Argument(
        "Quantus' noise alone.",
        values=("batch_uniform_noise", "uniform_noise", "batch_gaussian_noise", "gaussian_noise"),
    ),
    "perturb_func_kwargs": Argument("has no effect; ``radius`` is the strength of the noise."),
    "return_nan_when_prediction_changes": Argument("has no effect."),
}
_UNIFORM = {
    "lower_bound": Argument("has no effect; ``radius`` is the strength of the noise."),
    "upper_bound": Argument("has no effect, likewise."),
    "similarity_func": Argument("Quantus' ``difference`` alone.", values=("difference",)),
    "norm_numerator": Argument("Quantus' ``fro_norm`` alone.", values=("fro_norm",)),
    "norm_denominator": Argument("Quantus' ``fro_norm`` alone.", values=("fro_norm",)),
}
_RADIUS = "Noise is in standard deviations of the image, 8 draws by default, the same for every sample."

DROP_INS: Mapping[str, DropIn] = {
    "AUC": DropIn("NaN for a map that ranks nothing, and for a full mask."),
    "AttributionLocalisation": DropIn(
        "Reads signed maps unless ``abs=True``.",
        {
            "weighted": Argument(
                "True to multiply the score by the size of the image over that of the mask, as in its paper."
            ),
            "max_size": Argument("has no effect; Quantus warns of larger masks."),
            "positive_attributions": Argument("has no effect, because negative relevance counts as 0."),
        },
    ),
    "AvgSensitivity": DropIn(_RADIUS, {**_NOISE, **_UNIFORM}),
    "Completeness": DropIn(
        "An error, not a bool: of the sum or the mean of the map against the logit.",
        {
            "output_func": Argument("has no effect: the logit is read as it is."),
            "perturb_baseline": Argument("has no effect, because an image of zeros is the reference."),
            "perturb_func": Argument("has no effect, likewise."),
            "perturb_func_kwargs": Argument("has no effect, likewise."),
        },
    ),
    "Complexity": DropIn("NaN for a map that is flat."),
    "Continuity": DropIn(
        "One score per sample: whether the map moves along with the image. Series and volumes are measured, too.",
        {
            "nr_steps": Argument("has no effect; ``shifts`` are the steps."),
            "perturb_baseline": Argument("has no effect."),
            "perturb_func": Argument("has no effect, because images are shifted along every side."),
            "perturb_func_kwargs": Argument("has no effect."),
            "return_nan_when_prediction_changes": Argument("has no effect."),
        },
    ),
    "EffectiveComplexity": DropIn(
        "The fraction of the image that the model needs, not the number of values above a threshold; the model is required.",
        {"eps": Argument("has no effect; ``tolerance`` is the fraction of the probability that may be lost.")},
    ),
    "FaithfulnessCorrelation": DropIn(
        f"{_FEATURES} {_BLUR} Every sample has the same subsets and a score of its own; 200 runs by default.",
        {
            "nr_runs": Argument("the same as ``runs``.", setting="runs"),
            "subset_size": Argument("number of features in a set.", counts=True),
            **_SIMILARITY,
            **_PERTURB,
        },
    ),
    "FaithfulnessEstimate": DropIn(f"{_FEATURES} {_BLUR}", {**_STEP, **_SIMILARITY, **_PERTURB}),
    "Focus": DropIn(
        "NaN for a map without positive relevance. It needs no masks: they are the quarters of ``custom_batch``.",
        {"mosaic_shape": Argument("has no effect, as in Quantus.")},
    ),
    "IROF": DropIn(
        "The area is over the fraction of the segments, from the untouched image on, and below 1. Series and volumes are "
        "segmented, too. Every sample has a score of its own by default.",
        {"segmentation_method": Argument("``'slic'`` alone.", values=("slic",)), **_PERTURB},
    ),
    "Infidelity": DropIn(
        f"{_FEATURES} {_BLUR} The image is restored before the next square, and the map is scaled to the drops unless "
        "``scaled=False``.",
        {
            "perturb_patch_sizes": Argument(
                "sides of the squares in positions, in place of ``sides``; they do not overlap.", counts=True
            ),
            "n_perturb_samples": Argument("has no effect, because nothing is random."),
            "loss_func": Argument("Quantus' ``mse`` alone.", values=("mse",)),
            **_PERTURB,
        },
    ),
    "LocalLipschitzEstimate": DropIn(
        _RADIUS,
        {
            **_NOISE,
            "perturb_mean": Argument("has no effect; noise has no mean."),
            "perturb_std": Argument("has no effect; ``radius`` is the strength of the noise."),
            "similarity_func": Argument("Quantus' ``lipschitz_constant`` alone.", values=("lipschitz_constant",)),
            "norm_numerator": Argument("Quantus' ``distance_euclidean`` alone.", values=("distance_euclidean",)),
            "norm_denominator": Argument("Quantus' ``distance_euclidean`` alone.", values=("distance_euclidean",)),
        },
    ),
    "MaxSensitivity": DropIn(_RADIUS, {**_NOISE, **_UNIFORM}),
    "MPRT": DropIn(
        "One score per sample: the mean over four stages of layers, whose weights are permuted. Of the orders, top-down and "
        "independent. Reads signed maps unless ``abs=True``.",
        {
            "layer_order": Argument(
                "``'top_down'``, from the output on, or ``'independent'``.", values=("top_down", "independent")
            ),
            "similarity_func": Argument("Quantus' ``correlation_spearman`` alone.", values=("correlation_spearman",)),
            "return_average_correlation": Argument("has no effect: the score is the average."),
            "return_last_correlation": Argument("True for the network with all weights random."),
            "return_sample_correlation": Argument("has no effect, as in Quantus."),
            "skip_layers": Argument("has no effect; ``stages`` are few."),
        },
    ),
    "Monotonicity": DropIn(
        f"{_FEATURES} {_BLUR} Positions are inserted, so that the answer is not always True; NaN for a map that ranks "
        "nothing. Reads signed maps unless ``abs=True``.",
        {
            **_STEP,
            **_PERTURB,
            "return_scores": Argument("True for the fraction of steps, the score of a comparison.", returns_scores=True),
        },
    ),
    "MonotonicityCorrelation": DropIn(
        f"{_FEATURES} {_BLUR} One replacement, not the mean of several draws. A similarity of your own receives magnitudes.",
        {
            **_STEP,
            "eps": Argument("has no effect, because changes are not divided by the score."),
            "nr_samples": Argument("has no effect, because a feature is replaced once."),
            **_SIMILARITY,
            **_PERTURB,
        },
    ),
    "PixelFlipping": DropIn(
        f"{_FEATURES} {_BLUR} ``get_auc_score`` and ``return_auc_per_sample`` are the area over the fraction removed, from "
        "the untouched image on, not over the number of steps.",
        {
            **_STEP,
            **_PERTURB,
            "return_auc_per_sample": Argument("the same as ``return_scores``.", returns_scores=True),
            **_SCORES,
        },
    ),
    "PointingGame": DropIn(
        f"A float. {_EXPECTED} Quantus counts a hit if any of several peaks is on the mask.",
        {"weighted": Argument("False alone, because True raises in Quantus.", values=(False,))},
    ),
    "ROAD": DropIn(
        "All batches count, and a map that ranks nothing does not. ``abs`` is False by default.",
        {
            "percentages": Argument("of the positions that are removed, in place of ``fractions``."),
            "perturb_func": Argument("Quantus' ``noisy_linear_imputation`` alone.", values=("noisy_linear_imputation",)),
            "perturb_func_kwargs": Argument("has no effect; ``noise`` is a setting."),
            **_SCORES,
        },
    ),
    "RandomLogit": DropIn(
        "The rank correlation, not the structural similarity. The other class depends on the sample alone.",
        {
            "similarity_func": Argument("Quantus' ``correlation_spearman`` alone.", values=("correlation_spearman",)),
            "num_classes": Argument("has no effect: the model says how many classes it has."),
        },
    ),
    "RegionPerturbation": DropIn(
        f"{_FEATURES} {_BLUR} Higher is better. A random order is the same for every sample. ``get_auc_score`` is the mean "
        "drop.",
        {
            "patch_size": Argument(f"{_SIDE} Up to 100 of them are removed by default.", counts=True),
            "order": Argument(
                "``'morf'``, the strongest first, ``'lerf'``, the weakest first, or ``'random'``.",
                values=("morf", "lerf", "random"),
            ),
            **_PERTURB,
            **_SCORES,
        },
    ),
    "RelativeInputStability": DropIn(
        f"{_RADIUS} Draws that change the prediction are left out.",
        {**_NOISE, "eps_min": Argument("has no effect.")},
    ),
    "RelevanceMassAccuracy": DropIn("Negative relevance counts as 0; NaN for a map without positive relevance."),
    "RelevanceRankAccuracy": DropIn(_EXPECTED),
    "Selectivity": DropIn(
        f"{_FEATURES} {_BLUR} ``get_auc_score`` is the area over the fraction removed.",
        {"patch_size": Argument(_SIDE, counts=True), **_PERTURB, **_SCORES},
    ),
    "SensitivityN": DropIn(
        f"{_FEATURES} {_BLUR} One score per sample: the mean correlation over random sets, not over the samples.",
        {
            "features_in_step": Argument("step between the sizes of the sets, in positions.", counts=True),
            "n_max_percentage": Argument("largest size, as a fraction of the features."),
            **_SIMILARITY,
            **_PERTURB,
        },
    ),
    "Sparseness": DropIn("NaN for a map that is flat. The Gini index of Quantus is higher by up to 1e-7."),
    "TopKIntersection": DropIn(
        f"{_EXPECTED} By default, half as many positions as the mask has.",
        {
            "k": Argument(
                "an int is a number of positions, as in Quantus; a float is a multiple of those of the mask.", typed=True
            ),
            "concept_influence": Argument("True to divide the score by the fraction of the image that is the mask."),
        },
    ),
}
"""Our classes that have the names of Quantus' own, by name."""
