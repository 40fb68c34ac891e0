"""Findings of a map in plain sentences: what it says about a picture, and what it does not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from captum_softcam._maps import is_flat
from captum_softcam._names import NAME, shown
from captum_softcam._scores import PROBABILITIES
from captum_softcam.evaluation import Example
from captum_softcam.evaluation.controls import CONTROLS
from captum_softcam.metrics.functional import pointing_game, relevance_mass_accuracy
from captum_softcam.report._drawing.pictures import Drawn, fitting_map, fitting_mask, numbers

__all__ = ["are_probable", "class_name", "findings", "kind_of", "several_classes", "strongest_place", "value_text"]

_STRONGEST = 0.05  # fraction of the positions that count as the strongest
_SPOTS, _MOST_OF = 3, 0.8  # spots that are named one by one, if they hold most of the strongest values
_WIDE = 0.2  # standard deviation of the positions of a spot, as a fraction of the side, above which it has no third
_THIRDS = (("upper", "middle", "lower"), ("left", "centre", "right"))  # of the height, and of the width
_USED = "The map shows what the model used for its answer, not where disease is, and a strong colour is not a finding."


def class_name(number: int, classes: Sequence[str] | None, most: int = NAME) -> str:
    """Return the name of a class, shortened, or its number if it has no name."""
    return shown(classes[number], most) if classes is not None and 0 <= number < len(classes) else f"class {number}"


def are_probable(example: Example) -> bool:
    """Return whether the scores of an example are probabilities; else they are values of any size."""
    return example.scores in PROBABILITIES


def several_classes(example: Example) -> bool:
    """Return whether a picture can have several classes at once, each with a probability of its own."""
    values = example.probabilities
    # Of a single logit there are two classes, whose probabilities sum to 1.
    both = values is not None and len(values) == 2 and math.isclose(float(values.double().sum()), 1, abs_tol=1e-4)
    return example.scores == "sigmoid" and not both


def value_text(value: float, probable: bool) -> str:
    """Return a score as text; a probability that is not 0 or 1 is never rounded to it."""
    if not probable or not math.isfinite(value):
        return f"{value:.4g}"
    if 0 < value < 0.0005:
        return "< 0.001"
    return "> 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def findings(example: Example, found: Drawn, method: str, classes: Sequence[str] | None = None) -> list[str]:
    """Return what a map says in sentences: the answer and where it is strongest, its agreement with the mask, its limits.

    Args:
        example (Example): the sample with the scores of all classes, and the mask if there is one.
        found (Drawn): the same as it is drawn.
        method (str): name of the method, which has a map; that of a control is told apart.
        classes (sequence of str): names of the classes. Default: their numbers
    """
    answer, limits = _answer(example, classes), _USED
    if method in CONTROLS:
        limits = "The map is a control, which ignores the model: it says nothing about this answer."
    elif flaw := _flaw(example, method):
        limits = f"{flaw}, so it does not say what the model used."
    else:
        answer += f"; {_strongest(example, found, method, classes)}"
    return [f"{answer}.", *filter(None, [_agreement(example, method)]), limits]


def kind_of(found: Drawn) -> str:
    """Name what is drawn of a sample: a picture, a signal, or a slice of a volume with its number."""
    if found.slices:
        return f"slice {found.slices[0] + 1}"
    return "signal" if found.example.sample.image.dim() == 2 else "picture"


def _strongest(example: Example, found: Drawn, method: str, classes: Sequence[str] | None) -> str:
    """Return a clause on where the map is strongest as it is drawn, which may be on the uncropped original."""
    kind = kind_of(found) if found.slices else f"the {kind_of(found)}"
    place = strongest_place(found.example.maps[method][0].double().numpy(), kind)
    regression = example.probabilities is not None and len(example.probabilities) == 1
    if not place:
        what = "raises it" if regression else f"counts for “{class_name(example.target, classes)}”"
        return f"nothing in {kind} {what} in this map"
    what = "raises it most" if regression else f"counts most for “{class_name(example.target, classes)}”"
    return f"what {what} lies {place}, as shown here"


def _agreement(example: Example, method: str) -> str:
    """Return in a sentence how far a map agrees with the mask, by the metrics of a comparison; "" without a mask."""
    if example.sample.mask is None:
        return ""
    size = tuple(example.sample.image.shape[1:])
    masks = fitting_mask(example.sample.mask, size)[None]
    maps = fitting_map(method, example.maps[method], size)[None]
    area = float(masks.double().mean())
    if not area:
        return "No part of a marked region lies in what the model saw."
    mass, point = float(relevance_mass_accuracy(maps, masks)), float(pointing_game(maps, masks))
    if math.isnan(mass) or math.isnan(point):
        return "How far the map agrees with the marked region cannot be measured."
    where = "in it" if point == 1 else "outside of it" if point == 0 else "partly in it"
    return (
        f"{_percent(mass).capitalize()} of the sum of the map's positive values lies in the marked region, which covers "
        f"{_percent(area)} of what the model saw; the highest value lies {where}."
    )


def strongest_place(values: NDArray[np.float64], kind: str = "the picture") -> str:
    """Return in words where the strongest values of a map (H, W) or (L,) lie; "" if none is positive.

    The strongest are the highest 5 % of the positions, as far as they are positive. Spots of positions that touch are told
    apart, and named by the third of the height and of the width where their centre of mass lies.
    """
    known = np.where(np.isfinite(values), values, -np.inf)
    count = max(1, round(_STRONGEST * np.isfinite(values).sum()))
    lowest = np.partition(known.ravel(), -count)[-count]
    region = (known >= lowest) & (known > 0)
    if not region.any():
        return ""
    spots, found = ndimage.label(region, np.ones((3,) * values.ndim))
    sums = ndimage.sum_labels(np.where(region, known, 0), spots, range(1, found + 1))
    order = np.argsort(-sums, kind="stable")
    needed = int(np.searchsorted(np.cumsum(sums[order]) / sums.sum(), _MOST_OF)) + 1
    if needed > _SPOTS:
        where = _place(known, region)
        return f"in {found} separate spots {f'{where} of {kind}' if where else f'all over {kind}'}"
    places = list(dict.fromkeys(_place(known, spots == 1 + spot) for spot in order[:needed]))
    if "" in places:
        return f"all over {kind}"
    last = places.pop()
    return f"{', '.join(places)} and {last} of {kind}" if places else f"{last} of {kind}"


def _place(values: NDArray[np.float64], spot: NDArray[np.bool_]) -> str:
    """Return the part where a spot lies, as "in the upper left" or "across the middle third"; "" if it is all over."""
    weights = np.where(spot, values, 0)
    words = []
    for axis in range(spot.ndim):
        line = weights.sum(tuple(other for other in range(spot.ndim) if other != axis))
        places = (np.arange(len(line)) + 0.5) / len(line)
        centre = float((line * places).sum() / line.sum())
        wide = math.sqrt(float((line * (places - centre) ** 2).sum() / line.sum())) > _WIDE
        words.append("" if wide else _THIRDS[-spot.ndim :][axis][min(2, int(3 * centre))])
    if not any(words):
        return ""
    if len(words) == 1:
        return f"in the {dict(zip(_THIRDS[1], ('first', 'middle', 'last'), strict=True))[words[0]]} third"
    down, along = words
    if not (down and along):
        return f"across the {down} third" if down else f"down the {along} third"
    return "in the centre" if (down, along) == ("middle", "centre") else f"in the {down} {along.replace('centre', 'middle')}"


def _answer(example: Example, classes: Sequence[str] | None) -> str:
    """Return a clause on the class that is explained: its score, and whether it is the predicted one."""
    name, values = class_name(example.target, classes), example.probabilities
    if values is None:
        return f"The map explains “{name}”"
    if not values[example.target].isfinite():
        return f"The model gives “{name}” a score that is not finite ({float(values[example.target])})"
    if len(values) == 1:
        return f"The model gives the value {_in_words(example, 0)}"
    score = f"a {'probability' if are_probable(example) else 'score'} of {_in_words(example, example.target)}"
    own, others = values[example.target], values.double().nan_to_num(-torch.inf)
    others[example.target] = -torch.inf
    if several_classes(example):
        above = int((others > 0.5).sum())
        return f"The model gives “{name}” {score}, and more than 0.5 to {above or 'no'} other class{'es' * (above > 1)}"
    best = int(others.argmax())
    other = f"“{class_name(best, classes)}” with {_in_words(example, best)}"
    if values[best] > own:
        return f"The model gives “{name}” {score}, and {'predicts' if are_probable(example) else 'the highest to'} {other}"
    if not are_probable(example):
        return f"The model gives “{name}” the highest score, {_in_words(example, example.target)}, before {other}"
    return f"The model predicts “{name}” with {score}, before {other}"


def _in_words(example: Example, number: int) -> str:
    """Return the score of a class in a sentence."""
    assert example.probabilities is not None
    text = value_text(float(example.probabilities[number]), are_probable(example))
    return text.replace("< ", "less than ").replace("> ", "more than ")


def _flaw(example: Example, method: str) -> str:
    """Return what makes a map say nothing, or ""."""
    # of the map itself, because upsampling spreads what is not finite
    lost = 1 - float(numbers(example.maps[method]).isfinite().double().mean())
    if lost:
        return f"The map is not finite at {_percent(lost)} of its positions"
    whole = fitting_map(method, example.maps[method], tuple(example.sample.image.shape[1:]))
    return "The map is flat: all of its values are equal" if is_flat(whole[None]).item() else ""


def _percent(fraction: float) -> str:
    text = "less than 1%" if 0 < fraction < 0.005 else "more than 99%" if 0.995 <= fraction < 1 else f"{fraction:.0%}"
    return text.replace("%", "\N{NO-BREAK SPACE}%")
