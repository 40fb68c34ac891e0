"""Any metric of Quantus as a column of a comparison: its class, an instance, or a subclass of the user's own.

Quantus is called with one sample at a time, so that no score depends on the others of a batch, with a fresh copy of the
metric, with copies of image and map, and with the same random numbers for every sample and method.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import quantus
import torch
from numpy.typing import NDArray
from quantus.functions.normalise_func import normalise_by_average_second_moment_estimate, normalise_by_max
from quantus.helpers.enums import EvaluationCategory, ScoreDirection
from quantus.helpers.model.pytorch_model import PyTorchModel
from quantus.metrics.base import Metric as QuantusBase
from torch import Tensor, nn

from captum_softcam._intervention.view import duplicate
from captum_softcam._maps import is_flat
from captum_softcam._names import closest, quoted, reason
from captum_softcam._random import random_numbers
from captum_softcam._scores import Scores, as_scores, class_logits
from captum_softcam.metrics._quantus.metric import QuantusMetric
from captum_softcam.metrics.batch import Batch, Explanation
from captum_softcam.metrics.metric import Metric, Scored
from captum_softcam.metrics.verdicts import VERDICTS, Verdict

__all__ = ["quantus_column"]

PREFIX = "quantus:"

_STATE = {  # of an instance: no settings, or such as change no score of a single sample
    *("a_axes", "all_evaluation_scores", "batch_size", "evaluation_scores", "explain_func", "explain_func_kwargs"),
    *("_disable_warnings", "_display_progressbar", "aggregate_func", "default_plot_func", "nr_channels", "return_aggregate"),
}
_UNTOUCHED = {"orig", "original"}  # entries of a result that are not of a randomised network
_FIXED = {  # attributes that the column decides about
    "_disable_warnings": True,
    "_display_progressbar": False,
    "return_aggregate": False,
    "return_average_correlation": False,  # the mean of Quantus counts the network that is not randomised, too
}


def quantus_column(metric: str | type[Any] | Any, name: str | None = None) -> Metric:
    """Make a metric of Quantus a column of :func:`~captum_softcam.evaluation.compare_methods`.

    Each sample is measured by itself with a fresh copy of the metric. What Quantus returns of a sample becomes one score: of
    a curve, its area over a range of 1, which is about its mean; of one value per randomised layer (``MPRT``), their mean;
    of one value per percentage (``ROAD``), the area over the percentages; of True and False, 1 and 0. Where Quantus raises
    an error or refuses a map, the score is NaN and the error is recorded in ``Comparison.failures``.

    The metric gets signed maps at input resolution, and an ``explain_func`` that computes maps by the method that is
    compared, of any model that Quantus alters. Where it asks for probabilities, they are those of ``scores``. The
    ``seed`` of the comparison seeds the generators of NumPy, PyTorch and Python for each sample.

    The direction is the one that Quantus declares, unless :data:`VERDICTS` says that it is wrong; ``dataclasses.replace``
    changes it where a setting turns it round. What is known to be wrong with the metric is the ``note`` of the column.

    Cost: that of the metric, stated in Quantus, for one sample at a time.

    Args:
        metric (str, type or quantus.Metric): a metric of Quantus or of the user's own: an instance with its settings, a
            class, which gets its defaults, or the name of a class of Quantus, such as ``"quantus:MaxSensitivity"``.
        name (str): name of the column. Default: ``"quantus:"`` and the name of the class

    Returns:
        Metric: a column with ``origin="quantus"``, whose ``settings`` are those of the instance.

    Raises:
        ValueError: if Quantus has no such class, a class needs arguments, it declares no direction, or it gives no score of
            one sample or of another method, such as ``Sufficiency`` and ``SmoothMPRT``.
        TypeError: if ``metric`` is not a metric of Quantus.

    Example::

        >>> column = quantus_column(quantus.MaxSensitivity(nr_samples=10))
        >>> column.name, column.higher_is_better
        ('quantus:MaxSensitivity', False)
    """
    made = _instance(metric)
    cls = type(made)
    if isinstance(made, QuantusMetric) and "row" in vars(cls):
        return made.column() if name is None else replace(made.column(), name=name, title=name)
    theirs, verdict = cls.__module__.startswith("quantus."), _verdict(cls)
    if verdict is not None and not verdict.column:
        raise ValueError(f"{cls.__name__} of Quantus cannot be a column: {_advice(verdict)}")
    category = getattr(cls, "evaluation_category", EvaluationCategory.NONE)
    masks = category is EvaluationCategory.LOCALISATION
    reads_maps = theirs and verdict is not None and (masks or category is EvaluationCategory.COMPLEXITY)
    return Metric(
        name or f"{PREFIX}{cls.__name__}",
        name or (f"{getattr(cls, 'name', cls.__name__)} (Quantus)" if theirs else vars(cls).get("name", cls.__name__)),
        _category(made),
        _direction(made, verdict),
        "hedstrom2023quantus",
        0 if reads_maps else 1,
        partial(_measure, made, masks, reads_maps),
        {"class": f"{cls.__module__}.{cls.__qualname__}", "settings": _as_json(_settings(made))},
        origin="quantus",
        reads="map" if reads_maps else "",
        needs_mask=masks,
        note=_advice(verdict) if verdict and verdict.reason and verdict.verdict != "runs" else "",
    )


def _verdict(cls: type[Any]) -> Verdict | None:
    """Return the verdict on a class of Quantus, and of it what holds of a subclass."""
    base = next((each for each in cls.__mro__ if each.__module__.startswith("quantus.") and each.__name__ in VERDICTS), None)
    if base is None:
        return None
    verdict = VERDICTS[base.__name__]
    own = {name for each in cls.__mro__[: cls.__mro__.index(base)] for name in vars(each)}
    if "score_direction" in own:
        verdict = replace(verdict, higher_is_better=None)
    # What is measured otherwise need not have the fault.
    return replace(verdict, verdict="runs", column=True) if own & {"evaluate_batch", "__call__"} else verdict


def _instance(metric: Any) -> QuantusBase[Any]:
    if isinstance(metric, str):
        metric = _class_of(metric)
    if isinstance(metric, type) and issubclass(metric, QuantusBase):
        known = inspect.signature(metric).parameters
        quiet: dict[str, Any] = {"disable_warnings": True} if "disable_warnings" in known else {}
        try:
            return metric(**quiet)
        except TypeError as error:
            raise ValueError(
                f"{metric.__name__} cannot be made without arguments ({reason(error)}); pass an instance."
            ) from error
    if not isinstance(metric, QuantusBase):
        raise TypeError(
            f"a metric is a name, a Metric, or a metric of Quantus as a class or an instance; got {quoted(metric)}."
        )
    return metric


def _class_of(name: str) -> type[Any]:
    found = getattr(quantus, name.removeprefix(PREFIX), None)
    if not (isinstance(found, type) and issubclass(found, QuantusBase)) or found is QuantusBase:
        raise ValueError(f"Quantus has no metric {quoted(name)}. {closest(name, (f'{PREFIX}{each}' for each in VERDICTS))}")
    return found


def _advice(verdict: Verdict) -> str:
    return f"{verdict.reason} Use '{verdict.instead}'." if verdict.instead else verdict.reason


def _category(metric: QuantusBase[Any]) -> Any:
    category = getattr(metric, "evaluation_category", EvaluationCategory.NONE)
    return category.value.lower() if category is not EvaluationCategory.NONE else "other"


def _direction(metric: QuantusBase[Any], verdict: Verdict | None) -> bool:
    """Return whether higher is better, as the verdict says, else as the class declares."""
    if verdict is not None and verdict.higher_is_better is not None:
        # With the weakest patches first, the curve of a good map stays where it is.
        return verdict.higher_is_better == (getattr(metric, "order", "morf") != "lerf")
    declared = getattr(metric, "score_direction", None)
    if not isinstance(declared, ScoreDirection):
        raise ValueError(
            f"{type(metric).__name__} does not declare whether higher is better; set its class attribute score_direction to "
            "ScoreDirection.HIGHER or ScoreDirection.LOWER of quantus.helpers.enums."
        )
    return declared is ScoreDirection.HIGHER


def _measure(made: QuantusBase[Any], masks: bool, reads_maps: bool, explanation: Explanation, **_: Any) -> Scored:
    """Score each sample by itself; ``reads_maps`` says that the metric never calls the model."""
    batch, maps = explanation.batch, explanation.maps
    scores, errors = torch.full((len(maps),), torch.nan, dtype=torch.float64), {}
    model = None if reads_maps else _model_of(batch)
    wanted = ~is_flat(maps)  # nor finite: undefined by every metric of a comparison
    if masks:
        wanted &= batch.masks.flatten(1).any(1)
    for i in torch.nonzero(wanted).flatten().tolist():
        try:
            scores[i] = _value(_called(made, model, explanation, i))
        except Exception as error:  # of any kind: the metric may be the user's own
            errors[i] = f"{type(error).__name__}: {reason(error, 400)}"
    return Scored(scores, errors)


def _called(made: QuantusBase[Any], model: _Seen | None, explanation: Explanation, i: int) -> Any:
    """Call a fresh copy of the metric with sample ``i``."""
    metric, batch = copy.deepcopy(made), explanation.batch
    for name, value in _FIXED.items():
        if name in vars(metric):
            setattr(metric, name, value)
    if hasattr(metric, "num_classes"):  # of which RandomLogit chooses one, and 1000 by default
        metric.num_classes = min(metric.num_classes, batch.logits.shape[1])
    known = inspect.signature(type(metric).__call__).parameters
    if model is not None:
        # The model gives probabilities itself where the metric asks for them, because Quantus has no other than softmax.
        model.asked = bool("softmax" in known and known["softmax"].default is True)
    arguments: dict[str, Any] = {
        "model": model,
        "x_batch": _array(batch.images[i : i + 1]),
        "y_batch": batch.targets[i : i + 1].cpu().numpy().copy(),
        "a_batch": _signed(metric, _array(explanation.maps[i : i + 1])),
        "s_batch": batch.masks[i : i + 1].cpu().numpy().copy(),
        "channel_first": True,
        "explain_func": partial(_explain, explanation, metric, model, i),
        "explain_func_kwargs": {},
        "model_predict_kwargs": None,
        "softmax": False,
        "device": str(batch.images.device),
        "batch_size": 1,
    }
    if not any(each.kind is each.VAR_KEYWORD for each in known.values()):
        arguments = {name: value for name, value in arguments.items() if name in known}
    with random_numbers(batch.seed, batch.images.device), _quietly(), _old_names():
        try:
            return metric(**arguments)
        finally:
            # Quantus keeps every model that it wraps, and the copies that it randomises, for the life of the process.
            PyTorchModel._get_last_softmax_layer_index.cache_clear()
            PyTorchModel._get_model_with_linear_top.cache_clear()


def _signed(metric: QuantusBase[Any], maps: NDArray[Any]) -> NDArray[Any]:
    """Return the maps, or their magnitudes if the metric reads these, because Quantus first refuses negative maps."""
    scaled = getattr(metric, "normalise_func", None) in (normalise_by_max, normalise_by_average_second_moment_estimate)
    return np.abs(maps) if getattr(metric, "abs", False) and (scaled or not metric.normalise) else maps


def _explain(
    explanation: Explanation,
    metric: QuantusBase[Any],
    seen: _Seen | None,
    i: int,
    model: nn.Module,
    inputs: Any,
    targets: Any,
    **_: Any,
) -> NDArray[Any]:
    """Compute maps of versions of sample ``i`` by the method that is compared; called by Quantus."""
    batch = explanation.batch
    images = torch.tensor(np.asarray(inputs)).to(batch.images)
    classes = torch.tensor(np.asarray(targets), dtype=torch.long, device=images.device).reshape(-1)
    inner = None if model is seen or (seen and model is seen.whole) else model
    inner = inner.whole if isinstance(inner, _Seen) else inner

    def one(place: int) -> Tensor:
        image = images[place : place + 1]
        # The random numbers of a method are a function of the image: new ones for a perturbed image, those of the map itself
        # for the image as it is, so that another model or class is the only difference.
        same = torch.equal(image, batch.images[i : i + 1])
        draw = "" if same else hashlib.sha256(_array(image).tobytes()).hexdigest()[:16]
        return explanation.explain(image, targets=classes[place : place + 1], model=inner, rows=[i], draw=draw)

    return _signed(metric, _array(torch.cat([one(place) for place in range(len(images))])))


class _Seen(nn.Module):
    """A model as Quantus sees it: the logits, or the scores where a metric asks for probabilities.

    Modules have the names of the model's own. Quantus would remove a softmax that it finds among them, or trust it to be the
    last one, so that it is hidden.

    Args:
        model (torch.nn.Module): a copy, because Quantus sets hooks, and leaves them there after an error.
        scores (str or callable): how its outputs become scores.
        dtype (torch.dtype): of its inputs; Quantus passes single precision.
    """

    def __init__(self, model: nn.Module, scores: Scores, dtype: torch.dtype) -> None:
        super().__init__()
        self.whole, self.scores, self.dtype, self.asked = model, scores, dtype, False
        self.training = False

    def forward(self, images: Tensor, **more: Any) -> Tensor:
        outputs = self.whole(images.to(self.dtype), **more)
        return as_scores(outputs, self.scores) if self.asked else class_logits(outputs, self.scores)

    def named_modules(self, *arguments: Any, **more: Any) -> Iterator[tuple[str, nn.Module]]:
        for name, module in self.whole.named_modules(*arguments, **more):
            yield name, module if name else self

    def modules(self, *arguments: Any) -> Iterator[nn.Module]:
        yield from (module for module in super().modules(*arguments) if not isinstance(module, nn.Softmax))


_COPIES: weakref.WeakKeyDictionary[Batch, _Seen] = weakref.WeakKeyDictionary()


def _model_of(batch: Batch) -> _Seen:
    """Return a copy of the model, the same for all methods and metrics of a batch."""
    if batch not in _COPIES:
        _COPIES[batch] = _Seen(duplicate(batch.model), batch.scores, batch.images.dtype)
    return _COPIES[batch]


def _array(values: Tensor) -> NDArray[Any]:
    """Copy values to an array; NumPy does not have bfloat16, and Quantus does not expect half precision."""
    values = values.detach().cpu()
    return (values if values.dtype is torch.float64 else values.float()).numpy().copy()


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _old_names() -> Iterator[None]:
    """Provide the names that NumPy 2 removed and Quantus 0.6 still reads, within the block alone."""
    old: dict[str, Any] = {"trapz": getattr(np, "trapezoid", None), "NaN": np.nan}
    missing = [name for name in old if not hasattr(np, name)]
    for name in missing:
        setattr(np, name, old[name])
    try:
        yield
    finally:
        for name in missing:
            delattr(np, name)


def _value(result: Any) -> float:
    """Reduce what a metric returns of one sample to a number."""
    if isinstance(result, (list, tuple)) and len(result) == 1 and isinstance(result[0], Mapping):
        result = result[0]
    if isinstance(result, Mapping):
        return _of_mapping({key: _value(value) for key, value in result.items() if key not in _UNTOUCHED})
    if isinstance(result, list):
        result = [each.detach().cpu().numpy() if isinstance(each, Tensor) else each for each in result]
    values = np.asarray(result)
    if values.dtype.kind not in "biuf":  # NumPy would read None as NaN, and text as the number in it
        raise TypeError(f"it returns {quoted(result)} of one sample; expected one value, or one curve.")
    values = values.astype(np.float64)
    if values.ndim > 0 and len(values) == 1:
        values = values[0]
    elif values.ndim > 0:
        raise ValueError(f"it returns {len(values)} values of one sample; expected one value, or one curve.")
    return _area(np.arange(values.size), values.ravel())


def _of_mapping(values: Mapping[Any, float]) -> float:
    if not values:
        raise ValueError("it returns nothing; the model has no layer that it could change.")
    if all(isinstance(key, (int, float)) for key in values):
        places = sorted(values)
        return _area(np.array(places, dtype=np.float64), np.array([values[place] for place in places]))
    return float(np.mean(list(values.values())))


def _area(places: NDArray[Any], values: NDArray[np.float64]) -> float:
    """Return the area under a curve by the trapezoidal rule, over a range of 1."""
    if len(values) == 1:
        return float(values[0])
    return float(np.sum(np.diff(places) * (values[1:] + values[:-1])) / 2 / (places[-1] - places[0]))


def _settings(metric: QuantusBase[Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(metric).items() if name not in _STATE}


def _as_json(value: Any) -> Any:
    """Return a value as JSON that is the same in another process, and another one for another value."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.generic)):
        number = float(value) if isinstance(value, float) else value.item()
        return number if not isinstance(number, float) or math.isfinite(number) else str(number)
    if isinstance(value, (bytes, complex, PurePath)):
        return f"{value!r}"
    if isinstance(value, (set, frozenset)):
        return sorted(map(json.dumps, map(_as_json, value)))
    if isinstance(value, CodeType):  # whose text has the address and the line
        return [value.co_code.hex(), value.co_names, _as_json(value.co_consts)]
    if isinstance(value, Mapping):
        return {str(key): _as_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(entry) for entry in value]
    if isinstance(value, Tensor):
        value = _array(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    if isinstance(value, partial):
        return {"function": _as_json(value.func), "arguments": _as_json(value.args), **_as_json(value.keywords)}
    if callable(value) and hasattr(value, "__qualname__"):
        return _named(value)
    if not hasattr(value, "__dict__") and "__repr__" in vars(type(value)):  # such as a slice
        return {"class": _named(type(value)), "value": repr(value)}
    return {"class": _named(type(value)), **_as_json(getattr(value, "__dict__", {}))}


def _named(function: Callable[..., Any]) -> str:
    """Name a function; one whose name is not unique, such as a lambda, with a digest of its code and values."""
    name = f"{function.__module__}.{function.__qualname__}"
    code = getattr(function, "__code__", None)
    if "<" not in name or code is None:
        return name
    # A function among the values may refer to this one.
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    cells = [each.__qualname__ if isinstance(each, FunctionType) else each for each in cells]
    values = [code, function.__defaults__, function.__kwdefaults__, cells]
    return f"{name} {hashlib.sha256(json.dumps(_as_json(values)).encode()).hexdigest()[:16]}"
