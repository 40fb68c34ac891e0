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

from importlib import import_module

_MODULES = (
    "baselines",
    "coherence",
    "complexity",
    "imputation",
    "localisation",
    "masks",
    "perturbation",
    "segmentation",
    "subsets",
)


def __getattr__(name: str) -> object:
    # The table of metrics names these functions without torch; the first use of one imports them all.
    if "__all__" not in globals():
        modules = [import_module(f"{__name__}.{module}") for module in _MODULES]
        globals().update({each: getattr(module, each) for module in modules for each in module.__all__})
        globals()["__all__"] = sorted(each for module in modules for each in module.__all__)
    if name not in globals():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


def __dir__() -> list[str]:
    names: list[str] = import_module(__name__).__all__
    return names
