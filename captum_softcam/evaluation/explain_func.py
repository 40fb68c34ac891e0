"""Call any method, given by name, class, instance or function, and return maps at input resolution, as Quantus expects."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NoReturn, cast

import numpy as np
import torch
from captum.attr import (
    LRP,
    Attribution,
    GradientAttribution,
    GradientShap,
    LayerGradientShap,
    LimeBase,
    NeuronGradientShap,
    NoiseTunnel,
    PerturbationAttribution,
    ShapleyValues,
    ShapleyValueSampling,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_softcam._intervention.layers import default_layer, get_layer, layer_name, refuse_flat_layer, view_of_maps
from captum_softcam._intervention.view import View, duplicate
from captum_softcam._maps import upsample
from captum_softcam._names import closest, named, quoted
from captum_softcam._random import ONE_AT_A_TIME, random_numbers
from captum_softcam._scores import Scores, check_kind, score_table
from captum_softcam.attr import METHODS
from captum_softcam.evaluation.arguments import check_arguments, check_class, default_arguments, parameters_of
from captum_softcam.evaluation.controls import CONTROLS, image_seed
from captum_softcam.evaluation.costs import device_of
from captum_softcam.evaluation.one_logit import BothClasses, with_both_classes

__all__ = ["LayerExplainFunc", "refuse_without_layer"]

_RANDOM = (LimeBase, ShapleyValueSampling, GradientShap, LayerGradientShap, NeuronGradientShap, NoiseTunnel)


_LINEAR = [METHODS[name].cls for name in ("soft_cam", "class_activation_map")]
"""Methods whose map of the negative logit is the negative map, and that cannot explain a function of the logit."""

_RUN_ONCE = [method.cls for name, method in METHODS.items() if name != "score_cam"]

_CLASSES: dict[str, type[Attribution]] = {**{name: method.cls for name, method in METHODS.items()}, **CONTROLS}


class LayerExplainFunc:
    """A method as a Quantus ``explain_func``, which returns signed maps at input resolution for any model.

    The layer is looked up *by name* in the model of each call, because Quantus' randomisation metrics pass altered copies.
    Captum's classes run on a private view of the model, in which the layer returns maps (N, C, h, w) in any layout: their
    hooks do not affect other threads, and Grad-CAM at a layer of a transformer averages over its positions. An instance is
    used unchanged; it explains *its own* model and layer, so it does not suit randomisation metrics. Maps of layers are
    upsampled linearly and summed over channels. Signals (N, C, L) and volumes (N, C, D, H, W) are supported, too.

    The model's mode and gradients are restored. Random methods (Lime, SHAP, ``NoiseTunnel``) explain one image at a time,
    with a seed of its own, so that no map depends on its batch or on earlier calls. They use the random numbers of the whole
    process, so that such calls in several threads wait for each other. The map of an image that is not finite is NaN.

    Arguments that Captum requires have defaults for images. Occlusion slides a window of an eighth of the image by half its
    side. Methods that remove features remove patches of the input, 8 per side with all channels, or positions of the layer;
    Lime and Kernel SHAP remove 512 random sets of them. Path integrals have 32 steps, ``Saliency`` keeps the sign, and
    forwards contain about 64 images, 16 large ones on a CPU.

    Args:
        method (str, type, object or callable): a name in ``METHODS`` or ``CONTROLS``, a Captum attribution class or
            instance, or a function ``(model, images, targets) -> maps`` (N, C, ...).
        layer (str): name of the layer, for classes with a layer. Default: that which
            :func:`~captum_softcam.attr.suggest_layers` recommends for the model, at the cost of two or three forwards of one
            image for the first call; ``"evidence"`` for ``LayerSoftCam``
        scores (str or callable): what the outputs of the model mean, as for :func:`compare_methods`. With ``"sigmoid"`` a
            model of one logit *s* has two classes: the maps of class 1 explain s, those of class 0 explain -s. All other
            models are explained alike whatever the scores are. Default: ``"softmax"``
        **arguments: arguments of the class's constructor or its ``attribute``, or of the function.

    Raises:
        TypeError: if ``method`` is not a method, or has no such argument.
        ValueError: if the name is unknown, a required argument is missing, or the class wraps a method
            (``NoiseTunnel``) or returns maps that depend on the other images of a batch (``FeaturePermutation``).

    Example::

        >>> explain = LayerExplainFunc("recipro_cam", layer="layer4")
        >>> scores = quantus.MaxSensitivity(nr_samples=10)(model, x_batch, y_batch, explain_func=explain)
        >>> len(scores)
        2
    """

    def __init__(
        self,
        method: str | type[Attribution] | Attribution | Callable[..., Tensor],
        layer: str | None = None,
        *,
        scores: Scores = "softmax",
        **arguments: Any,
    ) -> None:
        check_kind(scores)
        self.method: Any = _find(method) if isinstance(method, str) else method
        self.arguments = arguments
        self.scores = scores
        self.layer = _layer_for(self.method, layer) if isinstance(self.method, type) else None
        self._suggested: dict[tuple[str, ...], str] = {}  # by the names of the modules: altered copies share their layer
        if _is_captum(self.method):
            check_arguments(self.method, arguments)

    @property
    def name(self) -> str:
        """Name of the method in the registry, else that of its class or function."""
        for name, known in _CLASSES.items():
            if self.method is known:
                return name
        inner = getattr(self.method, "attribution_method", None)  # what a NoiseTunnel smooths
        return "_".join(_snake(_source(method).__name__) for method in (self.method, inner) if method is not None)

    @property
    def lacks_layer(self) -> bool:
        """Whether the method has a layer and none was named, so that every model has its suggested one."""
        return isinstance(self.method, type) and self.layer is None and "layer" in parameters_of(self.method)

    @property
    def only_perturbs(self) -> bool:
        """Whether the method is a class that runs whole models on many altered inputs, without gradients."""
        # The other methods of this package search the modules behind their layer, and run the whole model once.
        found = isinstance(self.method, type) and issubclass(self.method, PerturbationAttribution)
        return found and self.method not in _RUN_ONCE and not self.lacks_layer

    @property
    def description(self) -> dict[str, Any]:
        """The ``class``, ``layer``, ``arguments`` and ``control`` of the method for a manifest, as JSON."""
        source = _source(self.method)
        return {
            "class": f"{source.__module__}.{source.__qualname__}",
            "layer": self.layer or _own_layer(self.method),
            "arguments": {name: _as_json(value) for name, value in self.arguments.items()},
            "control": source in CONTROLS.values(),
        }

    def __call__(self, model: nn.Module, inputs: NDArray[Any], targets: NDArray[Any], **_: Any) -> NDArray[np.float32]:
        """Compute maps (N, 1, ...) of images (N, C, ...) for classes (N,), as arrays.

        Args:
            model (torch.nn.Module): the classifier to explain.
            inputs (ndarray): images, cast to the precision of the model.
            targets (ndarray): the classes to explain.
            **_: further arguments of Quantus, ignored.

        Returns:
            ndarray: maps in single precision; cost and errors as for :meth:`explain`.
        """
        images = torch.as_tensor(inputs, dtype=_precision_of(model), device=device_of(model))
        maps = self.explain(model, images, torch.as_tensor(targets, dtype=torch.long, device=images.device))
        return maps.float().cpu().numpy()

    def explain(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        seeds: Sequence[int] | None = None,
        *,
        upsampled: bool = True,
    ) -> Tensor:
        """Compute maps (N, 1, ...) of images (N, C, ...) for classes (N,).

        Args:
            model (torch.nn.Module): the classifier to explain, in eval mode.
            images (Tensor): inputs of the model.
            targets (Tensor): the classes to explain.
            seeds (sequence of int): one per image, for random methods; a comparison derives them from the identifiers of
                the samples. Default: derived from the images, averaged over 64 patches
            upsampled (bool): return maps at input resolution, and not at that of the layer. Default: True

        Returns:
            Tensor: signed maps (N, 1, ...) in the precision and on the device of ``images``. Cost: that of the
            method; with ``scores="sigmoid"`` also one forward of an image, to see whether there is one logit.

        Raises:
            TypeError: if the method does not return a tensor.
            ValueError: if the model has no such layer, the layer has no spatial map, the method does not return one map per
                image, a method of Captum's fails because the model does not return scores (N, K), or an instance explains a
                model of one logit.
        """
        if self.lacks_layer:
            at_layer = LayerExplainFunc(self.method, self._layer_of(model, images), scores=self.scores, **self.arguments)
            return at_layer.explain(model, images, targets, seeds, upsampled=upsampled)
        if self.scores == "sigmoid" and len(images) and not isinstance(model, BothClasses):
            if self.layer is not None:
                get_layer(model, self.layer)  # so that an error names the type of the model
            with torch.no_grad():
                model = with_both_classes(model, model(images[:1]), self.scores)
        seeds = [image_seed(image) for image in images] if seeds is None and _draws(self.method) else seeds
        finite = images.flatten(1).isfinite().all(1)
        size = tuple(images.shape[2:])
        if finite.all():
            maps = self._explained(model, images, targets, seeds)
            return upsample(maps, size) if upsampled else maps
        if not finite.any():
            return images.new_full((len(images), 1, *size), torch.nan)
        kept = None if seeds is None else [seed for seed, good in zip(seeds, finite.tolist(), strict=True) if good]
        found = self._explained(model, images[finite], targets[finite], kept)
        found = upsample(found, size) if upsampled else found
        maps = found.new_full((len(images), *found.shape[1:]), torch.nan)
        maps[finite] = found
        return maps

    def _layer_of(self, model: nn.Module, images: Tensor) -> str:
        names = tuple(name for name, _ in model.named_modules())
        if names not in self._suggested:
            layer = default_layer(model, images[:1])
            if layer is None:
                refuse_without_layer(model, self.name)
            self._suggested[names] = layer
        return self._suggested[names]

    def _explained(self, model: nn.Module, images: Tensor, targets: Tensor, seeds: Sequence[int] | None) -> Tensor:
        try:
            apart = isinstance(self.method, type)  # classes run on a view of the model, or leave it unchanged
            quietly = _without_announcements() if _announces(self.method) else nullcontext()
            # Gradients are enabled, because the caller may be within no_grad, where gradient methods fail.
            with nullcontext() if apart else _as_found(model), quietly, torch.enable_grad():
                if seeds is None or not _draws(self.method):
                    return self._maps(model, images, targets, seeds)
                # One image at a time: within a batch, the numbers drawn for an image depend on those before it.
                ones = [slice(i, i + 1) for i in range(len(images))]
                drawn = [self._drawn(model, images[i], targets[i], seed) for i, seed in zip(ones, seeds, strict=True)]
                return torch.cat(drawn)
        except Exception:
            # Checked only after an error, because it costs a forward. Functions may accept any output of the model.
            if _is_captum(self.method):
                _blame_scores(model, images)
            raise

    def _drawn(self, model: nn.Module, image: Tensor, target: Tensor, seed: int) -> Tensor:
        with random_numbers(seed, image.device):
            return self._maps(model, image, target, [seed])

    def _maps(self, model: nn.Module, images: Tensor, targets: Tensor, seeds: Sequence[int] | None) -> Tensor:
        given = images.detach().clone()  # methods write into their inputs, or leave gradients there
        call = partial(self._attribute, seeds=seeds) if _is_captum(self.method) else partial(self.method, **self.arguments)
        maps = _only_tensor(call(model, given, targets), self.name)
        if self.layer is not None and maps.dim() <= images.dim():
            refuse_flat_layer(maps, _source(self.method).__name__, model, get_layer(model, self.layer), (images,))
        if maps.dim() != images.dim() or len(maps) != len(images):
            raise ValueError(
                f"{named(self.name)} gives {tuple(maps.shape)} for images {tuple(images.shape)}; maps have as many "
                "dimensions, and there is one for each image."
            )
        # Upsampling is linear, so that it may follow, and one channel is upsampled instead of all.
        return maps.detach().to(images).sum(1, keepdim=True)

    def _attribute(self, model: nn.Module, images: Tensor, targets: Tensor, seeds: Sequence[int] | None) -> Any:
        explainer, arguments = self.method, dict(self.arguments)
        if isinstance(model, BothClasses) and self.method in _LINEAR:
            return self._attribute_by_sign(model.whole, images, targets)
        if isinstance(model, BothClasses) and not isinstance(self.method, type):
            _refuse_one_logit(self.method, images)
        if isinstance(self.method, type):
            own = {name: arguments.pop(name) for name in self.arguments if name in parameters_of(self.method)}
            explainer = self.method(*self._seen_by_the_method(model), **own)
        known = parameters_of(explainer.attribute)
        if "target" in known or isinstance(explainer, NoiseTunnel):
            arguments["target"] = targets
        if "seeds" in known:
            arguments["seeds"] = seeds
        if isinstance(explainer, GradientAttribution):
            images.requires_grad_()  # otherwise Captum does so, with a warning
        return explainer.attribute(images, **{**default_arguments(explainer, images), **arguments})

    def _attribute_by_sign(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the map of the only logit for class 1, its negative for class 0."""
        positive = {**self.arguments, "relu_attributions": False}  # of the map itself, whose sign is not settled yet
        of_logit = LayerExplainFunc(self.method, self.layer, **positive)
        maps: Tensor = of_logit._attribute(model, images, torch.zeros_like(targets), None)
        maps = maps * (2 * targets - 1).to(maps).view(-1, *[1] * (maps.dim() - 1))
        return maps.relu() if self.arguments.get("relu_attributions") else maps

    def _seen_by_the_method(self, model: nn.Module) -> tuple[nn.Module, ...]:
        """Return the model, and the layer if the class has one; views of them for classes that set hooks, like Captum's."""
        # A class with a ``layout`` supports any layout and makes its own views, as those of this package do.
        ours = self.method.__module__.startswith("captum_softcam.") or "layout" in parameters_of(self.method)
        changes = issubclass(self.method, LRP)
        if changes:
            model = duplicate(model)  # LRP changes weights while it runs, and leaves attributes at the layers
        if ours or changes:
            return (model,) if self.layer is None else (model, get_layer(model, self.layer))
        if self.layer is None:
            return (cast(nn.Module, View(model, None).model),)
        return view_of_maps(model, self.layer, at_input=bool(self.arguments.get("attribute_to_layer_input")))


def _find(name: str) -> type[Attribution]:
    if name not in _CLASSES:
        raise ValueError(f"method {quoted(name)} is unknown. {closest(name, _CLASSES)}")
    return _CLASSES[name]


def _layer_for(method: type, layer: str | None) -> str | None:
    """Return the name of the layer for a class; None if it has no layer, or none was named."""
    check_class(method)
    if "layer" not in parameters_of(method):
        return None
    if layer is None and any(method is known.cls for known in METHODS.values() if known.needs == "evidence"):
        return "evidence"
    return layer


def refuse_without_layer(model: nn.Module, method: str) -> NoReturn:
    """Raise ValueError for a model without a layer that a method could explain."""
    raise ValueError(
        f"{type(model).__name__} has no layer with a spatial map (N, C, h, w), which method '{named(method)}' needs; use a "
        "method without a layer, such as 'integrated_gradients' or 'occlusion'."
    )


def _is_captum(method: Any) -> bool:
    """Return whether a method is a class or instance of Captum's, or else a function; TypeError if it is neither."""
    if isinstance(method, Attribution) or (isinstance(method, type) and issubclass(method, Attribution)):
        return True
    if isinstance(method, type) or not callable(method):
        raise TypeError(
            "a method is a name, a Captum attribution class or instance, or a function (model, images, targets) -> maps; "
            f"got {quoted(method)}."
        )
    return False


def _draws(method: Any) -> bool:
    """Return whether a method is one of Captum's random methods."""
    cls = method if isinstance(method, type) else type(method)
    # Captum's exact ShapleyValues are derived from the sampling, but use all permutations.
    return issubclass(cls, _RANDOM) and not issubclass(cls, ShapleyValues)


def _announces(method: Any) -> bool:
    """Return whether a method may be one of Captum's that warn before they set hooks."""
    module = getattr(_source(method), "__module__", None) or ""
    return any(part in module for part in ("deep_lift", "guided", "noise_tunnel"))


def _source(method: Any) -> Any:
    """Return the class or function of a method."""
    while isinstance(method, partial):
        method = method.func
    return method if hasattr(method, "__name__") else type(method)


def _snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", re.sub(r"\W", "", name))
    return words.lower()


@torch.no_grad()
def _refuse_one_logit(method: Any, images: Tensor) -> None:
    """Raise ValueError if the model of an instance has one logit, whose first class would be explained by the wrong sign."""
    forward_func = getattr(getattr(method, "attribution_method", method), "forward_func", None)
    outputs = forward_func(images[:1]) if forward_func is not None else None
    if isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] == 1:
        raise ValueError(
            f"an instance of {named(_source(method).__name__)} explains its own model, which gives one logit for two "
            "classes; pass the class instead, or build the instance on a function that returns both logits: "
            "lambda x: torch.cat([-model(x), model(x)], 1)."
        )


def _own_layer(method: Any) -> str | None:
    """Return the name of the layer of an instance, or of the one that it wraps."""
    method = getattr(method, "attribution_method", method)
    layer = getattr(method, "layer", None)
    return layer_name(method.forward_func, layer).strip("'") if isinstance(layer, nn.Module) else None


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_as_json(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(name): _as_json(entry) for name, entry in value.items()}
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    source = _source(value)
    return f"{source.__module__}.{source.__qualname__}"


def _only_tensor(result: Any, name: str) -> Tensor:
    if isinstance(result, (tuple, list)) and len(result) != 1:
        raise ValueError(f"{named(name)} gives {len(result)} values; maps are a single tensor (N, C, ...).")
    maps = result[0] if isinstance(result, (tuple, list)) else result
    if not isinstance(maps, Tensor):
        raise TypeError(f"{named(name)} gives {type(maps).__name__}; maps are a tensor (N, C, ...).")
    return maps


def _precision_of(model: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), torch.float32)


@contextmanager
def _as_found(model: nn.Module) -> Iterator[None]:
    """Restore the modes of the modules and the gradients of the parameters after the block."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _, _ in gradients:
        parameter.grad = None  # otherwise a backward pass would add to the gradient of the user
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient, required in gradients:
            parameter.grad = gradient
            parameter.requires_grad_(required)


@contextmanager
def _without_announcements() -> Iterator[None]:
    """Ignore Captum's warnings that it will set hooks and remove them again."""
    with ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Setting (forward, )?backward hooks", UserWarning)
        yield


@torch.no_grad()
def _blame_scores(model: nn.Module, images: Tensor) -> None:
    """Raise ValueError if the model does not return scores (N, K), which explains the error of a method of Captum's."""
    try:
        output = model(images)
    except Exception:  # the model itself fails, and its error is more helpful
        return
    if isinstance(output, Tensor) and output.dim() > 1 and len(output) == len(images) and output.shape[1:] != (1,):
        return
    score_table(output, len(images), "softmax")
