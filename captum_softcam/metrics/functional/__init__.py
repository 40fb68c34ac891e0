"""Scores of maps as pure functions of tensors: no state, any device, signals, images and volumes alike.

Maps (N, 1, ...) are at input resolution, signed, larger where there is more relevance; masks (N, 1, ...) are bool, True on
the object, and :func:`boxes_to_masks` makes them from boxes. Every function of maps returns one score per sample (N,), which
does not depend on the other samples of the batch. All functions follow the same rules:

- **A map that is flat or not finite ranks nothing: its score is NaN**, even where the formula has a value. The same holds
  for an image that is not finite. When you average scores without their NaN, report how many are left.
- **A model returns logits (N, K), and** ``scores`` **says what they mean**: :func:`as_scores`. Functions whose description
  says *probability* read the score of the class, those that say *logit* the output before it becomes a score. By default a
  score is a softmax, which a single logit does not have; and models that return probabilities, whose softmax barely moves,
  are refused unless ``scores`` is ``"identity"``. They are recognised by the outputs for all images and for an altered one.
- **Negative relevance is against the class and counts as 0 where a score weighs positions.** This concerns the relevance
  mass, the activation and the ADCC family, which masks the image by the activation. A map without positive relevance has
  nothing to weigh, and its score is NaN; only its activation sensitivity is 0, because it activates nothing of the mask.
  Scores that read the order alone (pointing game, ranks, top k, IoU, AUC, curves) treat a map of negative values like any
  other. The sparseness reads magnitudes, because a negative value is as much a part of the map.
- **An empty mask leaves nothing to find: a localisation score is NaN.** With a full mask the formula applies: most scores
  are 1, the activation sensitivity is not, and the AUC, which has no position outside the mask to compare with, is NaN.
- **Ties are broken at random, in expectation**: a score that picks the highest positions is its expected value over all
  orders of equal values, a comparison of two equal positions counts half, a threshold includes all of them or none. Curves
  need a single order: there, equal patches are sorted from the top left.
- **Random numbers are drawn from a seed, once, and are the same for every sample**: a score depends neither on the batch of
  its sample nor on the methods that were measured before.

Only functions with a ``forward_func`` run the model. Their cost is stated in forward passes.
"""

from importlib import import_module

BASELINES = ("blur", "mean", "black", "zero", "uniform", "linear")
"""Names of what replaces the removed parts of an image, see :func:`~captum_softcam.metrics.functional.as_baseline`."""

_MODULES = (
    "axioms",
    "baselines",
    "coherence",
    "extent",  # of complexity, which is the name of one of its functions
    "imputation",
    "localisation",
    "masks",
    "mosaics",
    "perturbation",
    "randomisation",
    "robustness",
    "segmentation",
    "subsets",
)


def __getattr__(name: str) -> object:
    # The table of metrics names these functions without torch; the first use of one imports them all.
    if "__all__" not in globals():
        modules = [import_module(f"{__name__}.{module}") for module in _MODULES]
        found = {each: getattr(module, each) for module in modules for each in module.__all__}
        found["as_scores"] = import_module("captum_softcam._scores").as_scores
        globals().update(found, __all__=sorted(found))
    if name not in globals():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


def __dir__() -> list[str]:
    # An attribute of the module, because a bare name does not call the module's own __getattr__.
    names: list[str] = import_module(__name__).__all__
    return names
