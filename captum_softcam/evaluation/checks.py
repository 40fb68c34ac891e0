"""Validate the arguments of a comparison and fill in defaults."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from captum_softcam._intervention.call import Call
from captum_softcam._intervention.closed_form import observe_copies
from captum_softcam._intervention.forward import depends_on_mode, observe, values_of
from captum_softcam._intervention.layers import default_layer, get_layer, layer_name, refuse_flat_layer
from captum_softcam._intervention.layout import refuse_other_count
from captum_softcam._intervention.stages import Survey, survey
from captum_softcam._maps import is_flat
from captum_softcam._names import as_text, listed, named, quoted
from captum_softcam._scores import Scores, as_scores, check_kind, class_logits, refuse_probabilities, score_table
from captum_softcam.attr import METHODS
from captum_softcam.data import Sample
from captum_softcam.evaluation.controls import CONTROLS
from captum_softcam.evaluation.explain_func import LayerExplainFunc, refuse_without_layer
from captum_softcam.evaluation.reader import SampleReader
from captum_softcam.metrics import METRICS, Metric, find_metric
from captum_softcam.metrics.batch import fractions
from captum_softcam.metrics.functional.imputation import stays_predicted
from captum_softcam.metrics.metric import check_baseline
from captum_softcam.softcam import SoftCamModel

__all__ = [
    "BY_QUANTUS",
    "check_choices",
    "check_explain",
    "check_layer",
    "check_model",
    "check_runner_up",
    "check_scores",
    "default_methods",
    "default_metrics",
    "fast_methods",
    "find_methods",
    "find_metrics",
    "fitting_methods",
    "warn_of_flat_maps",
]


BY_QUANTUS = "quantus:Complexity"
"""The default metric that Quantus computes: right as it is, without a forward, and a fraction of a second for an image."""

_EXPLAINED = ("true", "predicted")
_OF_FRACTIONS = {"average_drop", "increase_in_confidence", "adcc", "arcc"}  # not defined for scores outside [0, 1]
_FEW_FORWARDS = 4  # that a map of a fast method costs at most
_LOOKED_AT = 64  # samples searched for a mask, because a data set need not declare that it has any


def fitting_methods(model: nn.Module, layer: str | None) -> list[str]:
    """Return the methods that suit the model; layer methods only if it has a layer with a map."""
    evidence = isinstance(model, SoftCamModel)
    return [
        name
        for name, method in METHODS.items()
        if method.needs == "model" or (layer is not None and (evidence or method.needs == "layer"))
    ]


def default_methods(model: nn.Module) -> list[str]:
    """Return the methods that fit the model and take part by default, and the controls."""
    fitting = [name for name in METHODS if METHODS[name].needs != "evidence" or isinstance(model, SoftCamModel)]
    return [*(name for name in fitting if METHODS[name].default), *CONTROLS]


@torch.no_grad()
def fast_methods(model: nn.Module, layer: str | None, image: Tensor) -> tuple[list[str], dict[str, str]]:
    """Return the default methods whose maps of one image cost a few forwards, and why others are left out, by name.

    Recipro-CAM is fast where all masked copies follow from one forward, or where what lies behind the layer is cheap.

    Cost: one or two forwards.

    Args:
        model (torch.nn.Module): in eval mode.
        layer (str): of layer methods; None if no layer has a map.
        image (Tensor): (1, C, ...), input of the model.

    Raises:
        ValueError: if no method is fast.
    """
    if layer is None:
        refuse_without_layer(model, "grad_cam")
    fast = [name for name in fitting_methods(model, layer) if METHODS[name].default and METHODS[name].fast]
    forwards = _forwards_of_recipro_cam(model, get_layer(model, layer), image)
    if forwards <= _FEW_FORWARDS:
        return fast, {}
    why = f"a map costs about {forwards:.0f} forward passes at layer '{named(layer)}'"
    return [name for name in fast if name != "recipro_cam"], {"recipro_cam": why}


def _forwards_of_recipro_cam(model: nn.Module, layer: nn.Module, image: Tensor) -> float:
    """Return about how many forwards the map of an image costs, by the multiplications behind the layer."""
    call = Call.of(model, (image,), None)
    trace, rows = observe_copies(call, layer, "one_hot", None)
    if rows.found:
        return 1.0
    work = _Multiplications()
    before: list[int] = []
    with work:
        observe(call, layer, follow=lambda _: before.append(work.count), tracked=False)
    features = values_of(trace.features)[0]
    positions = trace.layout(features).to_maps(features).shape[2:].numel()
    return 1.0 + positions * (1 - before[-1] / work.count) if work.count else 1.0


class _Multiplications(TorchDispatchMode):
    """Counts the multiplications of products and convolutions, as torch's ``FlopCounterMode`` does without its hooks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's own
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        self.count += formula(*args, **(kwargs or {}), out_val=result) if formula else 0
        return result


def default_metrics(samples: SampleReader) -> list[str]:
    """Return the default metrics, without localisation metrics if none of the first samples has a mask."""
    first = (samples[i] for i in range(min(len(samples), _LOOKED_AT)))
    masks = any(isinstance(sample, Sample) and sample.mask is not None for sample in first)
    return [*(name for name, each in METRICS.items() if each.default and (masks or not each.needs_mask)), BY_QUANTUS]


def find_methods(
    methods: Sequence[Any] | Mapping[str, Any], layer: str | None, model: nn.Module
) -> dict[str, LayerExplainFunc]:
    """Resolve methods to their explain functions, by name.

    Raises:
        ValueError: if a name is unknown or used twice, there is no method, or SoftCAM is compared on a model without
            evidence, or a layer method on a model without a layer that gives a map.
    """
    if not methods:
        raise ValueError("there are no methods to compare; pass at least one.")
    if isinstance(methods, Mapping):
        return {as_text(name): _explainer(method, layer, model) for name, method in methods.items()}
    found: dict[str, LayerExplainFunc] = {}
    for method in dict.fromkeys(methods):  # a method listed twice counts once
        explainer = _explainer(method, layer, model)
        if explainer.name in found:
            raise ValueError(
                f"two methods are called '{named(explainer.name)}'; give them names: {{'one': ..., 'other': ...}}."
            )
        found[explainer.name] = explainer
    return found


def _explainer(method: Any, layer: str | None, model: nn.Module) -> LayerExplainFunc:
    if isinstance(method, LayerExplainFunc):
        if not method.lacks_layer:
            return method
        if layer is None:
            refuse_without_layer(model, method.name)
        return LayerExplainFunc(method.method, layer, **method.arguments)
    name = next((name for name, known in METHODS.items() if method == name or method is known.cls), "")
    softcam = bool(name) and METHODS[name].needs == "evidence"
    if softcam and not isinstance(model, SoftCamModel):
        raise ValueError(
            f"method '{name}' needs a SoftCAM model; got {type(model).__name__}. Convert it with "
            "convert_to_softcam(model) (captum-softcam convert), or leave the method out."
        )
    explainer = LayerExplainFunc(method, None if softcam else layer)
    if explainer.lacks_layer:
        refuse_without_layer(model, explainer.name)
    return explainer


def find_metrics(
    metrics: Sequence[Any] | Mapping[str, Any], perturb_baseline: str | Sequence[str] | None = None
) -> list[Metric]:
    """Resolve names and metrics of Quantus to metrics, each once; the keys of a mapping name them.

    Args:
        metrics (sequence or mapping): names such as ``deletion`` or ``deletion@mean``, or metrics, also of Quantus; also
            mappings of names to these among them.
        perturb_baseline (str or sequence of str): baselines of the metrics that replace parts of the image, unless their
            name has one already: a column for each. Default: that of each metric

    Raises:
        ValueError: if a name or baseline is unknown, two metrics have the same name, there is no metric or baseline, a
            baseline is named and no metric has a choice of it, or a metric of Quantus cannot be a column.
        TypeError: if a metric is of another kind.
    """
    if not metrics:
        raise ValueError("there are no metrics to compare by; pass at least one.")
    # A metric listed twice counts once; by identity, because instances of Quantus may compare in any way.
    entries = [metrics] if isinstance(metrics, Mapping) else metrics
    once = {entry if isinstance(entry, str) else id(entry): entry for entry in entries}
    resolved = [metric for entry in once.values() for metric in _metrics(entry)]
    found: dict[str, Metric] = {}
    for metric in resolved if perturb_baseline is None else _with_baselines(resolved, perturb_baseline):
        if found.setdefault(metric.name, metric) != metric:
            raise ValueError(
                f"two metrics are called '{named(metric.name)}'; give them names: {{'one': ..., 'other': ...}}."
            )
    return list(found.values())


def _metrics(entry: Any) -> list[Metric]:
    if not isinstance(entry, Mapping):
        return [_metric(entry)]
    found = [(as_text(name), _metric(metric)) for name, metric in entry.items()]
    return [replace(metric, name=name, title=name) for name, metric in found]


def _metric(metric: Any) -> Metric:
    if isinstance(metric, Metric):
        return _named_in_text(metric)
    if isinstance(metric, str) and not metric.startswith("quantus:"):
        return find_metric(metric)
    from captum_softcam.metrics import quantus_column  # which loads Quantus

    return quantus_column(metric)


def _with_baselines(metrics: Sequence[Metric], baselines: str | Sequence[str]) -> list[Metric]:
    baselines = [baselines] if isinstance(baselines, str) else list(baselines)
    if not baselines:
        raise ValueError("perturb_baseline is empty; pass at least one baseline, or leave it out.")
    free = [metric.perturbs and "@" not in metric.name for metric in metrics]
    if not any(free):
        for baseline in baselines:
            check_baseline(baseline)
        raise ValueError(
            f"perturb_baseline is {quoted(baselines[0])}, but no metric has a choice of it; leave it out, or "
            "measure one that replaces parts of the image, such as 'deletion'."
        )
    columns = [
        [metric.with_baseline(baseline) for baseline in baselines] if choice else [metric]
        for metric, choice in zip(metrics, free, strict=True)
    ]
    return [metric for each in columns for metric in each]


def _named_in_text(metric: Metric) -> Metric:
    name = as_text(metric.name)
    return metric if name == metric.name else replace(metric, name=name, title=as_text(metric.title))


def check_model(model: nn.Module) -> None:
    """Raise ValueError if a module whose output depends on the mode is in train mode, TypeError if it is no module."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the model is a {type(model).__name__}; expected a torch.nn.Module, of a Classifier its model and normalize."
        )
    parts = [(name or type(model).__name__, module) for name, module in model.named_modules()]
    training = [name for name, module in parts if module.training and depends_on_mode(module)]
    if training:
        raise ValueError(
            f"the model is in train mode ({len(training)} modules, first '{named(training[0])}'): dropout and batch "
            "statistics would change the scores. Call model.eval() first."
        )


@torch.no_grad()
def check_scores(
    model: nn.Module, images: Tensor, metrics: Sequence[Metric], scores: Scores = "softmax", *, runner_up: bool = False
) -> Tensor:
    """Return the outputs of a model; raise ValueError unless they are (N, K) and have the scores that are asked for.

    Probabilities in place of logits are accepted if no metric runs the model.
    """
    check_kind(scores)
    # This forward also warms the model up, before any is timed.
    outputs = score_table(model(images), len(images), scores)
    if any(metric.forwards for metric in metrics):
        refuse_probabilities(model, images, [outputs], scores)
    found = as_scores(outputs, scores)  # raises the errors of a function
    # In words before the run, and not once for every method.
    if any(metric.reads == "prediction" for metric in metrics):
        stays_predicted(outputs, outputs.new_zeros(len(outputs), dtype=torch.long), scores)
    if any(metric.name in _OF_FRACTIONS for metric in metrics):
        fractions(found.flatten(), scores)
    if runner_up:
        check_runner_up(outputs, scores)
    return outputs


def check_runner_up(outputs: Tensor, scores: Scores) -> None:
    """Raise ValueError if the outputs (N, K) have a single class, as those of a regression, and hence no runner-up."""
    if class_logits(outputs, scores).shape[1] == 1:
        raise ValueError("runner_up is True, but the model has a single class, and none besides it; leave runner_up out.")


def check_explain(explain: str) -> None:
    """Raise ValueError if the class to explain is named by an unknown word."""
    if explain not in _EXPLAINED:
        raise ValueError(
            f"explain is {quoted(explain)}; expected 'true', the class of each sample, or 'predicted', that of the model."
        )


def check_choices(explain: str, batch_size: int, examples: int, seed: int, probes: int = 0) -> None:
    """Raise ValueError if ``explain`` is unknown or a number is out of range."""
    check_explain(explain)
    from_zero = {"examples": examples, "seed": seed, "probes": probes}
    for name, value, least in (("batch_size", batch_size, 1), *((name, value, 0) for name, value in from_zero.items())):
        # Integral includes NumPy's integers, but also bool, whose True would pass as 1.
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{named(name)} is {quoted(value)}; expected a whole number from {least} up.")


@torch.no_grad()
def check_layer(model: nn.Module, layer: str | None, images: Tensor) -> str | None:
    """Return the layer to explain, by default the one that ``suggest_layers`` recommends; None if no layer has a map.

    Raises:
        ValueError: if the layer that was named has no spatial map, or not one per image.
    """
    if layer is None:
        return "backbone" if isinstance(model, SoftCamModel) else default_layer(model, images)
    module = get_layer(model, layer)
    features = observe(Call.of(model, images, None), module).features
    refuse_flat_layer(features, "a layer method", model, module, (images,))
    if len(features) != len(images):
        refuse_other_count(f"layer {named(layer_name(model, module))}", tuple(features.shape), len(images))
    return layer


def warn_of_flat_maps(
    model: nn.Module, images: Tensor, maps: Mapping[str, Tensor], methods: Mapping[str, LayerExplainFunc]
) -> None:
    """Warn of maps of which all values are equal, with the reason and the way out; those of controls are left out.

    Cost: that of the suggested layer, if there is such a map.

    Args:
        model (torch.nn.Module): that was explained.
        images (Tensor): (1, C, ...), its input.
        maps (mapping): one map (1, 1, ...) per method.
        methods (mapping): the methods by name.
    """
    controls = tuple(CONTROLS.values())
    flat = [name for name, each in maps.items() if each.isfinite().all() and is_flat(each).all()]
    flat = [name for name in flat if methods[name].method not in controls]
    if not flat:
        return
    found = survey(Call.of(model, images, None))
    by_layer: dict[str | None, list[str]] = {}
    for name in flat:
        by_layer.setdefault(None if found.obstacle else methods[name].layer, []).append(name)
    for layer, names in by_layer.items():
        _warn_of_flat_maps(names, layer, found)


def _warn_of_flat_maps(names: list[str], layer: str | None, found: Survey) -> None:
    best = "" if found.recommended is None else found.recommended.name
    reason = f"the score does not depend on the positions of layer '{named(layer or '')}'; use layer='{named(best)}'"
    if best and found.obstacle:
        reason = f"the scores depend on no map of the model, because {found.obstacle}; use trained weights"
    elif layer is None:
        reason = "the score does not change with the input"
    elif layer == best or not best:
        reason = f"the score does not change with the position in layer '{named(layer)}'"
    warnings.warn(f"the map is flat by {listed(map(repr, names))}: {reason}.", stacklevel=4)
