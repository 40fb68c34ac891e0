"""Scores of maps as pure functions of tensors: no state, any device, signals, images and volumes alike.

Maps (N, 1, ...) are at input resolution, signed, larger where there is more evidence; masks (N, 1, ...) are bool, True where
the evidence lies, and :func:`boxes_to_masks` makes them from boxes. Every function of maps gives one score per sample (N,),
which does not depend on the other samples of the batch. Decided once, for all of them:

- **A map that is flat or not finite ranks nothing: its score is NaN**, also where the formula has a value, and so is that of
  an image that is not finite. A mean over samples that leaves NaN out should be shown with their number.
- **A model gives logits, (N, K) of two classes or more.** One logit, whose softmax is always 1, and probabilities, whose
  softmax hardly moves, are refused. These are recognised by the rows of all images that were asked about and an altered one.
- **Negative evidence speaks against the class: where a score weighs positions, it counts as none.** These are the relevance
  mass, the activation and the ADCC family, which shows the model the image where the activation is. A map without positive
  evidence has nothing to weigh there: NaN, but for the activation sensitivity, 0: it activates nothing of the mask. Scores
  that read the order alone (pointing game, ranks, top k, IoU, AUC, curves) take a map of negative values like any other.
  The sparseness reads magnitudes, for a negative value is as much a part of the picture.
- **An empty mask leaves nothing to find: a localisation score is NaN.** A full mask cannot be missed: the score is what the
  formula gives, 1 for all but the activation sensitivity; the AUC, which has nothing left to compare with, is NaN.
- **Of equal values one is drawn at random**: a score that picks the highest positions is its expected value over all their
  orders, a comparison of two equal positions counts half, a threshold takes all of them or none. The curves need one order:
  there, equal patches come from the top left.
- **What is random is drawn from a seed, once, and is the same for every sample**: a score depends neither on the batch that
  its sample came in nor on the method that came before.

Not one of the functions runs a model, but those that ask for ``forward_func``: their cost is given in forwards.
"""

from captum_softcam.metrics.functional.baselines import black_baseline, blur_baseline, mean_baseline
from captum_softcam.metrics.functional.coherence import (
    adcc,
    adcc_of_means,
    average_drop,
    coherency,
    confidence,
    increase_in_confidence,
    masked_confidence,
    masked_images,
)
from captum_softcam.metrics.functional.complexity import map_complexity, sparseness
from captum_softcam.metrics.functional.imputation import noisy_linear_imputation, road_curve
from captum_softcam.metrics.functional.localisation import (
    activation_precision,
    activation_sensitivity,
    energy_based_pointing_game,
    iou_at_best_threshold,
    pixel_auc,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    top_k_intersection,
    top_k_localisation_precision,
)
from captum_softcam.metrics.functional.masks import boxes_to_masks
from captum_softcam.metrics.functional.perturbation import (
    area_under_curve,
    deletion_curve,
    insertion_curve,
    monotonicity,
    region_perturbation,
    step_fractions,
)
from captum_softcam.metrics.functional.subsets import (
    faithfulness_correlation,
    faithfulness_estimate,
    infidelity,
    monotonicity_correlation,
    sensitivity_n,
)
from captum_softcam.metrics.functional.superpixels import irof, superpixels

__all__ = [
    "activation_precision",
    "activation_sensitivity",
    "adcc",
    "adcc_of_means",
    "area_under_curve",
    "average_drop",
    "black_baseline",
    "blur_baseline",
    "boxes_to_masks",
    "coherency",
    "confidence",
    "deletion_curve",
    "energy_based_pointing_game",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "increase_in_confidence",
    "infidelity",
    "insertion_curve",
    "iou_at_best_threshold",
    "irof",
    "map_complexity",
    "masked_confidence",
    "masked_images",
    "mean_baseline",
    "monotonicity",
    "monotonicity_correlation",
    "noisy_linear_imputation",
    "pixel_auc",
    "pointing_game",
    "region_perturbation",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "road_curve",
    "sensitivity_n",
    "sparseness",
    "step_fractions",
    "superpixels",
    "top_k_intersection",
    "top_k_localisation_precision",
]
