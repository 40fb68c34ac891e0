"""Findings of a map in plain sentences: what it says about a picture, and what it does not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from captum_softcam._maps import is_flat
from captum_softcam._names import NAME, shown
from captum_softcam.evaluation import Example
from captum_softcam.evaluation.controls import CONTROLS
from captum_softcam.metrics.functional import pointing_game, relevance_mass_accuracy
from captum_softcam.report.pictures import Drawn, fitting_map, fitting_mask

__all__ = [
    "agreement",
    "are_probable",
    "class_name",
    "findings",
    "sentences",
    "several_classes",
    "strongest_place",
    "value_text",
]

_STRONGEST = 0.05  # fraction of the positions that count as the strongest
_SPOTS, _MOST_OF = 3, 0.8  # spots that are named one by one, if they hold most of the strongest values
_WIDE = 0.2  # standard deviation of the positions of a spot, as a fraction of the side, above which it has no third
_THIRDS = (("upper", "middle", "lower"), ("left", "centre", "right"))  # of the height, and of the width
_KINDS = {1: "signal", 2: "picture", 3: "volume"}
_USED = "The map shows what the model used for its answer, not where disease is, and a strong colour is not a finding."


def class_name(number: int, classes: Sequence[str] | None, most: int = NAME) -> str:
    """Return the name of a class, shortened, or its number if it has no name."""
    return shown(classes[number], most) if classes and 0 <= number < len(classes) else f"class {number}"


def are_probable(example: Example) -> bool:
    """Return whether the scores of an example are probabilities; else they are values of any size."""
    return example.scores in ("softmax", "sigmoid")


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
    """Return :func:`sentences`, and between them the :func:`agreement` with the mask if there is one.

    Args:
        example (Example): the sample with the scores of all classes.
        found (Drawn): the same as it is drawn.
        method (str): name of the method, which has a map.
        classes (sequence of str): names of the classes. Default: their numbers
    """
    kind = f"slice {found.slices[0] + 1}" if found.slices else _KINDS[found.example.sample.image.dim() - 1]
    answer, limits = sentences(example, method, found.example.maps[method], kind, classes)
    return [answer, *filter(None, [agreement(example, method)]), limits]


def sentences(
    example: Example, method: str, shown_map: Tensor, kind: str, classes: Sequence[str] | None = None
) -> list[str]:
    """Return two sentences: which class, how sure, and where the map is strongest; and what the map does not say.

    Args:
        example (Example): the sample with the scores of all classes.
        method (str): name of the method; that of a control is told apart.
        shown_map (Tensor): its map (1, ...) as it is drawn, NaN where it is not finite or was not seen.
        kind (str): what it is drawn on, such as ``"picture"`` or ``"slice 3"``.
        classes (sequence of str): names of the classes. Default: their numbers
    """
    answer = _answer(example, classes)
    if method in CONTROLS:
        return [f"{answer}.", "The map is a control, which ignores the model: it says nothing about this answer."]
    if flaw := _flaw(fitting_map(method, example.maps[method], tuple(example.sample.image.shape[1:]))):
        return [f"{answer}.", f"{flaw}, so it does not say what the model used."]
    place = strongest_place(shown_map[0].double().numpy(), kind)
    regression = example.probabilities is not None and len(example.probabilities) == 1
    most = "what raises it most" if regression else f"what counts most for “{class_name(example.target, classes)}”"
    if not place:
        return [f"{answer}; {most.replace('what', 'nothing').replace(' most', '')} in this {kind.split()[0]}.", _USED]
    return [f"{answer}; {most} lies {place}, as shown here.", _USED]


def agreement(example: Example, method: str) -> str:
    """Return in a sentence how far a map agrees with the mask, by the metrics of a comparison; "" without a mask.

    Args:
        example (Example): sample with its mask, and with maps of its size.
        method (str): name of the map.
    """
    if example.sample.mask is None:
        return ""
    size = tuple(example.sample.image.shape[1:])
    masks = fitting_mask(example.sample.mask, size)[None]
    maps = fitting_map(method, example.maps[method], size)[None]
    kind, area = _KINDS[len(size)], float(masks.double().mean())
    if not area:
        return f"The marked region lies outside of what the model saw of this {kind}."
    mass, point = float(relevance_mass_accuracy(maps, masks)), float(pointing_game(maps, masks))
    if math.isnan(mass) or math.isnan(point):
        return f"How far the map agrees with the marked region, {_percent(area)} of the {kind}, cannot be measured."
    where = "in it" if point == 1 else "outside of it" if point == 0 else "partly in it"
    return (
        f"Of the map's positive values, {_percent(mass)} lie in the marked region, which covers {_percent(area)} of the "
        f"{kind}; the highest value lies {where}."
    )


def strongest_place(values: NDArray[np.float64], kind: str = "picture") -> str:
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
        return f"in {found} separate spots {f'{where} of the {kind}' if where else f'all over the {kind}'}"
    places = list(dict.fromkeys(_place(known, spots == 1 + spot) for spot in order[:needed]))
    if "" in places:
        return f"all over the {kind}"
    last = places.pop()
    return f"{', '.join(places)} and {last} of the {kind}" if places else f"{last} of the {kind}"


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
    probable = are_probable(example)
    own, best = float(values[example.target]), int(values.double().nan_to_num(-torch.inf).argmax())
    score = f"{'a probability' if probable else 'a score'} of {value_text(own, probable)}"
    if not math.isfinite(own):
        return f"The model gives “{name}” a score that is not finite ({own})"
    if len(values) == 1:
        return f"The model gives the value {value_text(own, probable)}"
    others = [number for number in range(len(values)) if number != example.target]
    following = max(others, key=lambda number: float(values[number].nan_to_num(-torch.inf)))
    if several_classes(example):
        above = sum(float(value) > 0.5 for value in values[others])
        more = f", and more than 0.5 to {above} other{'s' * (above != 1)}" if above else ", and more than 0.5 to no other"
        return f"The model gives “{name}” {score}{more}"
    if float(values[best]) > own:
        highest = f"“{class_name(best, classes)}”, with {value_text(float(values[best]), probable)}"
        verb = "predicts" if probable else "gives the highest to"
        return f"The model {verb} {highest}, and gives “{name}” {score}"
    next_best = f"“{class_name(following, classes)}” with {value_text(float(values[following]), probable)}"
    return f"The model {'predicts' if probable else 'scores highest'} “{name}” with {score}, before {next_best}"


def _flaw(attribution: Tensor) -> str:
    """Return what makes a map say nothing, or ""."""
    lost = 1 - float(attribution.isfinite().double().mean())
    if lost:
        return f"The map is not finite at {_percent(lost)} of its positions"
    return "The map is flat: all of its values are equal" if is_flat(attribution[None]).item() else ""


def _percent(fraction: float) -> str:
    if 0 < fraction < 0.005:
        return "less than 1 %"
    return "more than 99 %" if 0.995 <= fraction < 1 else f"{fraction:.0%}".replace("%", " %")
