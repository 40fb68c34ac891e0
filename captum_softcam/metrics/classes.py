"""The metrics as classes of Quantus, to be dropped into a script that speaks Quantus."""

from __future__ import annotations

from captum_softcam.metrics.quantus_metric import QuantusMetric

__all__ = [
    "IROF",
    "ROAD",
    "ActivationPrecision",
    "ActivationSensitivity",
    "Adcc",
    "AverageDrop",
    "Coherency",
    "Deletion",
    "EnergyBasedPointingGame",
    "FaithfulnessCorrelation",
    "FaithfulnessEstimate",
    "IncreaseInConfidence",
    "Infidelity",
    "Insertion",
    "IouAtBestThreshold",
    "Irof",
    "MapComplexity",
    "Monotonicity",
    "MonotonicityCorrelation",
    "PixelAuc",
    "PixelFlipping",
    "PointingGame",
    "RegionPerturbation",
    "RelevanceMassAccuracy",
    "RelevanceRankAccuracy",
    "Road",
    "Selectivity",
    "SensitivityN",
    "Sparseness",
    "TopKIntersection",
    "TopKLocalisationPrecision",
]


class PointingGame(QuantusMetric, of="pointing_game"):
    """Whether the highest position lies on the mask :cite:p:`zhang2018pointing`.

    Higher is better. Cost: no forward.

    Args:
        tolerance (float): positions beside the mask that still are a hit. Default: 0.0
    """


class EnergyBasedPointingGame(QuantusMetric, of="energy_based_pointing_game"):
    """Share of the positive evidence that lies on the mask :cite:p:`wang2020scorecam`.

    Higher is better. Cost: no forward.
    """


class RelevanceMassAccuracy(QuantusMetric, of="relevance_mass_accuracy"):
    """Share of the positive evidence that lies on the mask :cite:p:`arras2022clevr`.

    Higher is better. Cost: no forward.
    """


class RelevanceRankAccuracy(QuantusMetric, of="relevance_rank_accuracy"):
    """Share of the highest positions, as many as the mask has, that lie on it :cite:p:`arras2022clevr`.

    Higher is better. Cost: no forward.
    """


class TopKIntersection(QuantusMetric, of="top_k_intersection"):
    """Share of the highest positions that lie on the mask :cite:p:`theiner2022geolocation`.

    Higher is better. Cost: no forward.

    Args:
        k (float): how many, as a multiple of the positions of the mask. Default: 0.5
    """


class PixelAuc(QuantusMetric, of="pixel_auc"):
    """Chance that a position of the mask is higher than one beside it :cite:p:`fawcett2006roc`.

    Higher is better. Cost: no forward.
    """


class ActivationPrecision(QuantusMetric, of="activation_precision"):
    """Share of the activation that falls on the mask :cite:p:`djoumessi2026softcam`.

    Higher is better. Cost: no forward.
    """


class ActivationSensitivity(QuantusMetric, of="activation_sensitivity"):
    """Share of the mask that is activated :cite:p:`djoumessi2026softcam`.

    Higher is better. Cost: no forward.
    """


class TopKLocalisationPrecision(QuantusMetric, of="top_k_localisation_precision"):
    """Share of the highest patches that touch the mask :cite:p:`djoumessi2026softcam`.

    Higher is better. Cost: no forward.

    Args:
        k (int): how many. Default: 10
        patches (int): per side; None for single positions. Default: 16
    """


class IouAtBestThreshold(QuantusMetric, of="iou_at_best_threshold"):
    """Intersection over union of mask and map, cut where they agree best :cite:p:`choe2020wsol`.

    Higher is better. Cost: no forward.
    """


class Deletion(QuantusMetric, of="deletion"):
    """Area under the probability while the strongest patches are taken away :cite:p:`petsiuk2018rise`.

    Lower is better. Cost: 16 forwards.

    Args:
        steps (int): from all to nothing. Default: 16
    """


class Insertion(QuantusMetric, of="insertion"):
    """Area under the probability while the strongest patches are put in :cite:p:`petsiuk2018rise`.

    Higher is better. Cost: 16 forwards.

    Args:
        steps (int): from nothing to all. Default: 16
    """


class RegionPerturbation(QuantusMetric, of="region_perturbation"):
    """Mean fall of the probability while the strongest patches are taken away :cite:p:`samek2017evaluating`.

    Higher is better. Cost: 32 forwards.

    Args:
        regions_evaluation (int): patches to take, one at a time. Default: 32
    """


class PixelFlipping(QuantusMetric, of="pixel_flipping"):
    """Area under the probability while patch by patch is taken away :cite:p:`bach2015pixelwise`.

    Lower is better. Cost: 64 forwards.
    """


class Selectivity(QuantusMetric, of="selectivity"):
    """Area under the probability while squares of patches are taken away :cite:p:`montavon2018methods`.

    Lower is better. Cost: 16 forwards.

    Args:
        patch_size (int): side of the squares, in patches. Default: 2
    """


class FaithfulnessCorrelation(QuantusMetric, of="faithfulness_correlation"):
    """Whether the logit falls more, the more evidence a random set of patches holds :cite:p:`bhatt2020evaluating`.

    Higher is better. Cost: 200 forwards.

    Args:
        subset_size (int): patches taken at a time. Default: 16
        runs (int): number of subsets. Default: 200
    """


class FaithfulnessEstimate(QuantusMetric, of="faithfulness_estimate"):
    """Whether the logit falls more without a patch, the more evidence it holds :cite:p:`alvarez2018towards`.

    Higher is better. Cost: 64 forwards.
    """


class SensitivityN(QuantusMetric, of="sensitivity_n"):
    """The faithfulness correlation, mean over several sizes of the subsets :cite:p:`ancona2018towards`.

    Higher is better. Cost: 200 forwards.

    Args:
        sizes (sequence of int): patches taken at a time. Default: [1, 4, 16, 48]
        runs (int): number of subsets of each size. Default: 50
    """


class Infidelity(QuantusMetric, of="infidelity"):
    """How far the fall of the logit is from what the map says, squares of patches taken away :cite:p:`yeh2019infidelity`.

    Lower is better. Cost: 138 forwards.

    Args:
        sides (sequence of int): of the squares, in patches. Default: [1, 2, 4]
        scaled (bool): False to take the map in its own units. Default: True
    """


class Monotonicity(QuantusMetric, of="monotonicity"):
    """Share of steps at which the probability does not fall while patches come in :cite:p:`arya2019explanation`.

    Higher is better. Cost: 16 forwards.

    Args:
        steps (int): from nothing to all. Default: 16
    """


class MonotonicityCorrelation(QuantusMetric, of="monotonicity_correlation"):
    """Whether the logit moves more without a patch, the greater its value :cite:p:`nguyen2020quantitative`.

    Higher is better. Cost: 64 forwards.
    """


class Road(QuantusMetric, of="road"):
    """Share of right answers while the strongest positions are imputed, remove and debias :cite:p:`rong2022road`.

    Lower is better. Cost: 9 forwards.

    Args:
        shares (sequence of float): of the positions, taken away. Default: [0.1, 0.2, ... 0.9]
        noise (float): standard deviation of the noise on them. Default: 0.01
    """


ROAD = Road
"""The same under the name that it has in Quantus."""


class Irof(QuantusMetric, of="irof"):
    """Area over the probability while the strongest superpixels are taken away :cite:p:`rieger2020irof`.

    Higher is better. Cost: 17 forwards.

    Args:
        steps (int): from all to nothing. Default: 16
    """


IROF = Irof
"""The same under the name that it has in Quantus."""


class AverageDrop(QuantusMetric, of="average_drop"):
    """Share of the probability that is lost when only what the map marks is seen :cite:p:`chattopadhay2018gradcampp`.

    Lower is better. Cost: 1 forward.
    """


class IncreaseInConfidence(QuantusMetric, of="increase_in_confidence"):
    """Whether the probability rises when only what the map marks is seen :cite:p:`chattopadhay2018gradcampp`.

    Higher is better. Cost: 1 forward.
    """


class Coherency(QuantusMetric, of="coherency"):
    """Whether the map stays when the model sees what it marks alone :cite:p:`poppi2021adcc`.

    Higher is better. Cost: 1 map.
    """


class Adcc(QuantusMetric, of="adcc"):
    """Harmonic mean of the probability kept, the coherency, and what the map leaves out :cite:p:`poppi2021adcc`.

    Higher is better. Cost: 1 forward, 1 map.
    """


class MapComplexity(QuantusMetric, of="map_complexity"):
    """How much of the image the map marks; not ``quantus.Complexity``, an entropy :cite:p:`poppi2021adcc`.

    Lower is better. Cost: no forward.
    """


class Sparseness(QuantusMetric, of="sparseness"):
    """Gini index of the map's magnitudes :cite:p:`chalasani2020concise`.

    Higher is better. Cost: no forward.
    """
