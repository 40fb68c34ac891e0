"""The metrics as classes of Quantus, for use in Quantus scripts."""

from __future__ import annotations

from captum_softcam.metrics.quantus_metric import QuantusMetric

__all__ = [
    "IROF",
    "MPRT",
    "ROAD",
    "ActivationPrecision",
    "ActivationSensitivity",
    "Adcc",
    "Arcc",
    "AverageDrop",
    "Coherency",
    "Deletion",
    "EnergyBasedPointingGame",
    "FaithfulnessCorrelation",
    "FaithfulnessEstimate",
    "GridPointingGame",
    "IncreaseInConfidence",
    "Infidelity",
    "Insertion",
    "IouAtBestThreshold",
    "Irof",
    "MapComplexity",
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


class PixelAuc(QuantusMetric, of="pixel_auc"):
    """Chance that a position on the mask is higher than one outside :cite:p:`fawcett2006roc`.

    Higher is better. Reads the map alone. Cost: no forward.
    """


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


class Deletion(QuantusMetric, of="deletion"):
    """Area under the probability while patches are removed, the strongest first :cite:p:`petsiuk2018rise`.

    Lower is better. Reads the probability. Cost: 16 forwards.

    Args:
        steps (int): number of steps from the whole image to none of it. Default: 16
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class Insertion(QuantusMetric, of="insertion"):
    """Area under the probability while patches are inserted, the strongest first :cite:p:`petsiuk2018rise`.

    Higher is better. Reads the probability. Cost: 16 forwards.

    Args:
        steps (int): number of steps from none of the image to all of it. Default: 16
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class RegionPerturbation(QuantusMetric, of="region_perturbation"):
    """Mean drop of the probability while the strongest patches are removed :cite:p:`samek2017evaluating`.

    Higher is better. Reads the probability. Cost: 32 forwards.

    Args:
        regions_evaluation (int): number of patches that are removed, one at a time. Default: 32
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class PixelFlipping(QuantusMetric, of="pixel_flipping"):
    """Area under the probability while patches are removed one by one :cite:p:`bach2015pixelwise`.

    Lower is better. Reads the probability. Cost: 64 forwards.

    Args:
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class Selectivity(QuantusMetric, of="selectivity"):
    """Area under the probability while squares of patches are removed :cite:p:`montavon2018methods`.

    Lower is better. Reads the probability. Cost: 16 forwards.

    Args:
        patch_size (int): side of the squares, in patches. Default: 2
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class FaithfulnessCorrelation(QuantusMetric, of="faithfulness_correlation"):
    """Correlation of the map over random sets of patches with the drops of the logit :cite:p:`bhatt2020evaluating`.

    Higher is better. Reads the logit. Cost: 200 forwards.

    Args:
        subset_size (int): number of patches in a set. Default: 16
        runs (int): number of sets. Default: 200
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class FaithfulnessEstimate(QuantusMetric, of="faithfulness_estimate"):
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


class SensitivityN(QuantusMetric, of="sensitivity_n"):
    """Mean of the faithfulness correlation over several sizes of the sets :cite:p:`ancona2018towards`.

    Higher is better. Reads the logit. Cost: 200 forwards.

    Args:
        sizes (sequence of int): numbers of patches in a set. Default: [1, 4, 16, 48]
        runs (int): number of sets of each size. Default: 50
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class Infidelity(QuantusMetric, of="infidelity"):
    """Squared error between the map and the drop of the logit without squares of patches :cite:p:`yeh2019infidelity`.

    Lower is better. Reads the logit. Cost: 138 forwards.

    Args:
        sides (sequence of int): sides of the squares, in patches. Default: [1, 2, 4]
        scaled (bool): False to use the map in its own units. Default: True
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class Monotonicity(QuantusMetric, of="monotonicity"):
    """Fraction of steps at which the probability does not fall while patches are inserted :cite:p:`arya2019explanation`.

    Higher is better. Reads the probability. Cost: 16 forwards.

    Args:
        steps (int): number of steps from none of the image to all of it. Default: 16
        perturb_baseline (str): what replaces removed patches, see :func:`.as_baseline`. Default: blur
    """


class MonotonicityCorrelation(QuantusMetric, of="monotonicity_correlation"):
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


ROAD = Road
"""Alias in the spelling of Quantus."""


class Irof(QuantusMetric, of="irof"):
    """Area over the probability while superpixels are removed, the strongest first :cite:p:`rieger2020irof`.

    Higher is better. Reads the probability. Cost: 17 forwards.

    Args:
        steps (int): number of steps from the whole image to none of it. Default: 16
        perturb_baseline (str): what replaces removed segments, see :func:`.as_baseline`. Default: mean
    """


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
