"""Base class of the metrics as classes of Quantus: the interface of Quantus around a row of :data:`METRICS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from quantus.helpers.enums import DataType, EvaluationCategory, ModelType, ScoreDirection
from quantus.helpers.model.model_interface import ModelInterface
from quantus.metrics.base import Metric as Base
from torch import Tensor, nn

from captum_softcam._intervention.forward import refuse_train_mode
from captum_softcam._names import closest, named, quoted
from captum_softcam._scores import check_kind
from captum_softcam.metrics._quantus.arguments import DROP_INS, Argument
from captum_softcam.metrics.batch import Batch, Explain, Explanation
from captum_softcam.metrics.metric import BASELINES, Curve, Metric
from captum_softcam.metrics.mosaics import Candidate, MosaicPool
from captum_softcam.metrics.randomised import RandomisedModels
from captum_softcam.metrics.registry import METRICS

__all__ = ["QuantusMetric"]

_TABLE = 2  # dimensions
_DROP_INS = {name.lower(): each for name, each in DROP_INS.items()}  # Irof is IROF


def _of_the_batch(metric: Metric) -> dict[str, Any]:
    """Return the settings of the batch that a metric reads, besides its own, with their defaults."""
    plays = metric.category == "faithfulness" or (metric.forwards and metric.category in ("axiomatic", "complexity"))
    shared: dict[str, Any] = {"patches": None} if plays else {}
    return {**shared, "seed": 0, "scores": "softmax"} if metric.forwards or metric.attributions else shared


class QuantusMetric(Base[list[float]]):
    """One of :data:`METRICS` as a class of Quantus.

    It is called like the classes of Quantus and returns one float per sample, the score of a comparison. Where Quantus'
    class of the name returns something else, such as a curve, so does this one, unless ``return_scores`` is True. Images,
    signals and volumes have their channels first; tables are refused. Maps are signed and of the size of the images. Several
    channels, as Captum's input attributions have them, are summed. A map without positive relevance is measured.

    Metrics that run the model have two settings besides their own: the ``seed`` (0) of random subsets, noise and weights,
    the same for every sample, and ``scores``, what the outputs of the model mean (``"softmax"``, see
    :func:`~captum_softcam.metrics.functional.as_scores`). Metrics that perturb patches also have the ``patches`` per side
    (None for 64 in all, 8 per side of an image; smaller images have fewer, and default settings that count patches
    shrink with them). Some metrics ignore them: :class:`Road`, :class:`Irof`, :class:`AverageDrop`,
    :class:`IncreaseInConfidence`, :class:`Coherency` and :class:`Adcc` perturb no patches, of the faithfulness metrics only
    :class:`FaithfulnessCorrelation`, :class:`SensitivityN` and :class:`Road` are random, and :class:`Coherency` reads
    nothing but maps.

    Args:
        abs (bool): measure the magnitudes of the maps; negative relevance then counts as positive. Default: False
        normalise (bool): pass each map through ``normalise_func`` first. Default: False
        normalise_func (callable): normalisation of Quantus. Default: its ``normalise_by_max``
        normalise_func_kwargs (dict): its further arguments. Default: none
        return_aggregate (bool): return one number for all samples. Default: False
        aggregate_func (callable): computes that number; ``numpy.nanmean`` leaves undefined scores out.
            Default: ``numpy.mean``
        default_plot_func (callable): for ``plot``. Default: none
        disable_warnings (bool): has no effect, because there are no warnings. Default: True
        display_progressbar (bool): show the progress over batches. Default: False
        explain_func (callable): computes maps in place of the ``explain_func`` of the call, which
            ``quantus.evaluate`` chooses itself where maps are given as arrays. Default: none
        **settings: settings of the metric, listed by its class, and the arguments of Quantus' class of the same name.

    Raises:
        ValueError: if the metric does not have a setting of that name, ``scores`` is unknown, or an argument of Quantus has
            a value that this package does not measure.
        TypeError: if ``scores`` is neither text nor a function.
    """

    row: ClassVar[str]
    arguments: ClassVar[Mapping[str, Argument]] = {}
    """Arguments of Quantus' class of this name."""
    _defaults: ClassVar[dict[str, Any]]
    __signature__: ClassVar[inspect.Signature]
    data_applicability = {DataType.IMAGE, DataType.TIMESERIES}  # noqa: RUF012 - Quantus' own declare it so
    model_applicability = {ModelType.TORCH}  # noqa: RUF012 - likewise

    def __init_subclass__(cls, *, of: str = "") -> None:
        super().__init_subclass__()
        if not of:  # a base of several classes
            return
        metric, cls.row = METRICS[of], of
        cls.name = metric.title
        cls.score_direction = ScoreDirection.HIGHER if metric.higher_is_better else ScoreDirection.LOWER
        cls.evaluation_category = EvaluationCategory[metric.category.upper()]
        shared = _of_the_batch(metric)
        cls._defaults = {**shared, **metric.settings}
        cls.arguments = _DROP_INS[cls.__name__.lower()].arguments if cls.__name__.lower() in _DROP_INS else {}
        # For help() and autodoc: the signature of __init__ hides the settings.
        cls.__signature__ = _signature({**dict.fromkeys(cls.arguments), **cls._defaults})
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{_shared(shared, cls.arguments)}"

    def __init__(
        self,
        *,
        abs: bool = False,
        normalise: bool = False,
        normalise_func: Callable[..., NDArray[Any]] | None = None,
        normalise_func_kwargs: dict[str, Any] | None = None,
        return_aggregate: bool = False,
        aggregate_func: Callable[..., Any] = np.mean,
        default_plot_func: Callable[..., Any] | None = None,
        disable_warnings: bool = True,
        display_progressbar: bool = False,
        explain_func: Callable[..., NDArray[Any]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            abs=abs,
            normalise=normalise,
            normalise_func=normalise_func,
            normalise_func_kwargs=normalise_func_kwargs,
            return_aggregate=return_aggregate,
            aggregate_func=aggregate_func,
            default_plot_func=default_plot_func,
            disable_warnings=disable_warnings,
            display_progressbar=display_progressbar,
        )
        for name in settings.keys() - self._defaults.keys() - self.arguments.keys():
            common = inspect.signature(QuantusMetric).parameters.keys() - {"settings"}
            known = list(dict.fromkeys([*self._defaults, *self.arguments, *sorted(common)]))
            raise ValueError(f"{type(self).__name__} has no setting {quoted(name)}. {closest(name, known)}")
        if "scores" in settings:
            check_kind(settings["scores"])
        # None is the default of many arguments of Quantus.
        self.asked = {name: settings[name] for name in self.arguments if settings.get(name) is not None}
        self._refuse_values()
        given = {name: value for name, value in settings.items() if name in self._defaults}
        self._given = given | {self.arguments[name].setting: value for name, value in self.asked.items()}
        self._given.pop("", None)
        self.settings = {**self._defaults, **self._given}
        self._explained_by = explain_func
        self.a_axes = ()  # the axes of a map among those of the image: Quantus 0.6 would infer them, and raise if it cannot

    def __call__(
        self,
        model: nn.Module | None,
        x_batch: NDArray[Any],
        y_batch: NDArray[Any],
        a_batch: NDArray[Any] | None = None,
        s_batch: NDArray[Any] | None = None,
        channel_first: bool | None = True,
        explain_func: Callable[..., NDArray[Any]] | None = None,
        explain_func_kwargs: dict[str, Any] | None = None,
        model_predict_kwargs: dict[str, Any] | None = None,
        softmax: bool | None = None,  # noqa: ARG002 - passed by quantus.evaluate
        device: str | None = None,
        batch_size: int = 64,
    ) -> list[float]:
        """Score the samples, NaN where undefined.

        Args:
            model (torch.nn.Module): images -> outputs (N, K), in eval mode; None if the metric costs no forward.
            x_batch (ndarray): images (N, C, H, W), signals (N, C, L) or volumes.
            y_batch (ndarray): the class that is explained of each, (N,).
            a_batch (ndarray): maps (N, 1, ...), (N, ...) or (N, C, ...), whose channels are summed. Default: computed by
                ``explain_func``
            s_batch (ndarray): masks (N, 1, ...) or (N, ...), above 0 on the object; required for localisation. Default: none
            channel_first (bool): None to let Quantus infer it. Default: True
            explain_func (callable): ``(model=, inputs=, targets=, **explain_func_kwargs)`` -> maps.
            explain_func_kwargs (dict): its further arguments. Default: none
            model_predict_kwargs (dict): further arguments of the model. Default: none
            softmax (bool): has no effect: the formula of a metric decides between logit and probability, and ``scores``
                how the one becomes the other.
            device (str): passed to ``explain_func``; the metric itself runs on the device of the model.
            batch_size (int): samples at a time; except for rounding, no score depends on it. Default: 64

        Returns:
            list of float: one score for each sample.

        Raises:
            ValueError: if a required model, masks or ``explain_func`` is missing, the model is in train mode or does not
                return outputs (N, K) with these ``scores``, images are a table, or maps, masks and classes do not fit them.
        """
        explain_func = self._explained_by or explain_func
        self._refuse_missing(model, a_batch, s_batch, explain_func)
        images = np.asarray(x_batch)
        _refuse_other_counts(images, y_batch=y_batch, a_batch=a_batch, s_batch=s_batch)
        scores: list[float] = super().__call__(
            model=model,
            x_batch=images,
            y_batch=np.asarray(y_batch),
            a_batch=None,  # Quantus refuses maps without positive values: custom_preprocess passes them around its check
            s_batch=None if s_batch is None else np.asarray(s_batch),
            channel_first=channel_first,
            # Quantus 0.6 asserts that there is a function if a_batch is None.
            explain_func=explain_func or self._refuse_to_explain,
            explain_func_kwargs=dict(explain_func_kwargs or {}),  # Quantus adds entries to it
            model_predict_kwargs=model_predict_kwargs,
            softmax=False,
            device=device,
            batch_size=batch_size,
            custom_batch=None if a_batch is None else np.asarray(a_batch),
        )
        return scores

    def custom_preprocess(
        self,
        *,
        model: ModelInterface[nn.Module] | None,
        x_batch: NDArray[Any],
        y_batch: NDArray[Any],
        custom_batch: NDArray[Any] | None,
        **_: Any,
    ) -> dict[str, Any]:
        """Return the maps, or maps computed on demand; called by Quantus."""
        self._randomised = RandomisedModels(_module(model), self.settings.get("seed", 0))  # shared by all batches
        if METRICS[self.row].needs_mosaics:
            self._pool = self._choose_pool(model, x_batch, y_batch)
        on_demand = _Maps(lambda part: self._explain(_module(model), x_batch[part], y_batch[part]), len(x_batch))
        # Where a_batch is set, Quantus 0.6 skips its explain_batch, which refuses maps without positive values.
        return {"a_batch": on_demand if custom_batch is None else custom_batch, "custom_batch": None}

    def evaluate_batch(
        self,
        model: ModelInterface[nn.Module] | None,
        x_batch: NDArray[Any],
        y_batch: NDArray[Any],
        a_batch: NDArray[Any],
        s_batch: NDArray[Any] | None = None,
        **_: Any,
    ) -> list[float]:
        """Score a batch; called by Quantus."""
        metric, module = METRICS[self.row], _module(model)
        # Images take the dtype of the weights, too: NumPy makes float64 by default, and float32 weights refuse it.
        like = next(module.parameters(), torch.empty(0))

        def to_maps(values: NDArray[Any]) -> Tensor:
            # A copy, because torch.from_numpy shares memory and warns of arrays that are read-only.
            return torch.tensor(self._prepare(_one_channel(values, x_batch)), device=like.device)

        def explain(
            images: Tensor,
            *,
            targets: Tensor | None = None,
            model: nn.Module | None = None,
            rows: Sequence[int] | None = None,
            draw: str = "",  # noqa: ARG001 - an explain_func has random numbers of its own
        ) -> Tensor:
            classes = y_batch[slice(None) if rows is None else list(rows)] if targets is None else targets.cpu().numpy()
            return to_maps(self._explain(module if model is None else model, images.cpu().numpy(), classes))

        arguments = (
            _with_arguments(module, model),
            torch.tensor(x_batch).to(like),
            torch.tensor(y_batch, dtype=torch.long, device=like.device),
            None if s_batch is None else torch.tensor(_masks(s_batch, x_batch), device=like.device),
        )
        settings = {name: value for name, value in self.settings.items() if name not in metric.settings}
        maps = to_maps(a_batch)
        settings |= {
            "randomised": self._randomised,
            "mosaics": lambda: self._pool.make(batch.images, batch.targets, batch.seeds, batch.seed),
        }
        batch: Batch = self._batch(maps, *arguments, **settings)
        return self._answers(self._measured(self._explanation(batch, maps, explain)))

    def column(self) -> Metric:
        """Return the metric as a column of a comparison.

        Returns:
            Metric: the row of :data:`METRICS`, with the settings of the instance.

        Raises:
            ValueError: if the instance has an argument that a comparison does not have, such as ``abs``, or has itself,
                such as ``patches``.
        """
        metric = METRICS[self.row]
        given = {name: _as_numbers(value) for name, value in self._given.items()}
        own = {name: value for name, value in given.items() if value != _as_numbers(self._defaults[name])}
        baseline = own.pop("perturb_baseline", None)
        other = [name for name, value in (("abs", self.abs), ("normalise", self.normalise)) if value]
        other += ["explain_func"] * (self._explained_by is not None)
        other += [name for name, value in self.asked.items() if self.arguments[name].alters(value)]
        other += [name for name in own if name not in metric.settings]
        other += ["perturb_baseline"] * (baseline not in (None, *BASELINES))
        if other:
            raise ValueError(
                f"{type(self).__name__} cannot be a column with {' and '.join(other)}: a comparison has signed maps, and "
                "patches, seed and scores of its own. Leave that out, or pass the class of Quantus for arguments of Quantus."
            )
        metric = metric if baseline is None else metric.with_baseline(baseline)
        return replace(metric, settings={**metric.settings, **own})

    def _batch(self, maps: Tensor, *arguments: Any, **settings: Any) -> Batch:  # noqa: ARG002 - of subclasses
        """Make the batch whose maps are measured."""
        return Batch(*arguments, **settings)

    def _explanation(self, batch: Batch, maps: Tensor, explain: Explain) -> Explanation:
        """Make the explanation that is measured."""
        return Explanation(batch, maps, explain)

    def _measured(self, explanation: Explanation, **more: Any) -> Tensor | Curve:
        """Measure a batch with the settings of the instance, and with more."""
        metric = METRICS[self.row]
        own = {name: self._given.get(name, value) for name, value in metric.settings_for(explanation).items()}
        return cast("Tensor | Curve", metric.function(explanation, **{**own, **more}))

    def _answers(self, measured: Tensor | Curve) -> list[Any]:
        """Return what Quantus returns of each sample."""
        scores: list[Any] = (measured.area if isinstance(measured, Curve) else measured).tolist()
        return scores

    def interpret_scores(self) -> None:
        """Print what the metric measures."""
        print(inspect.getdoc(type(self)))

    def _explain(self, module: nn.Module, images: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
        own = {"inputs": images.copy(), "targets": targets.copy()}  # an explain_func may write into its arguments
        return np.asarray(self.explain_func(model=module, **own, **self.explain_func_kwargs))

    def _choose_pool(
        self, model: ModelInterface[nn.Module] | None, images: NDArray[Any], targets: NDArray[Any]
    ) -> MosaicPool:
        """Choose the images that fill mosaics among all images of a call, whatever its batch size."""
        module = _module(model)
        like = next(module.parameters(), torch.empty(0))
        pairs = zip(images, targets.tolist(), strict=True)
        candidates = (Candidate(torch.tensor(image).to(like), target) for image, target in pairs)
        return MosaicPool.chosen(candidates, _with_arguments(module, model), self.settings["scores"])[0]

    def _prepare(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Apply ``normalise`` and ``abs``."""
        # Map by map, because the functions of Quantus may scale all maps of a batch by one value.
        if self.normalise and self.normalise_func:
            maps = np.concatenate([self.normalise_func(maps[i : i + 1]) for i in range(len(maps))])
        return np.abs(maps) if self.abs else maps

    def _refuse_values(self) -> None:
        """Raise ValueError if an argument of Quantus has a value that this package does not measure."""
        for name, value in self.asked.items():
            values = self.arguments[name].values
            if values and getattr(value, "__name__", value) not in values:
                raise ValueError(
                    f"{type(self).__name__} takes {' or '.join(map(quoted, values))} as {name}; got {quoted(value)}: use "
                    "the class of Quantus for other values."
                )

    def _refuse_missing(self, model: nn.Module | None, maps: object, masks: object, explain_func: object) -> None:
        name, metric = type(self).__name__, METRICS[self.row]
        if maps is None and explain_func is None:
            raise ValueError(
                f"{named(name)} has nothing to measure; pass maps as a_batch, or the explain_func that computes them."
            )
        if masks is None and metric.needs_mask:
            raise ValueError(f"{named(name)} compares maps with masks; pass masks as s_batch, (N, 1, ...).")
        if model is not None:
            for module in model.modules():
                refuse_train_mode(module)
        elif metric.forwards or metric.attributions:
            raise ValueError(f"{named(name)} needs the model; got None.")

    def _refuse_to_explain(self, **_: Any) -> NDArray[Any]:
        raise ValueError(f"{type(self).__name__} needs maps of other images; pass the explain_func that computes them.")


# A subclass of Sequence, because Quantus 0.6 cuts nothing but sequences and arrays into batches.
class _Maps(Sequence[NDArray[Any]]):
    """Maps that are computed when Quantus selects a batch of them."""

    def __init__(self, make: Callable[[slice], NDArray[Any]], count: int) -> None:
        self._make = make
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: Any) -> Any:
        return self._make(part)


def _signature(defaults: Mapping[str, Any]) -> inspect.Signature:
    """Make a signature of the settings and ``**common``."""
    kind = inspect.Parameter
    settings = [kind(name, kind.KEYWORD_ONLY, default=value) for name, value in defaults.items()]
    return inspect.Signature([*settings, kind("common", kind.VAR_KEYWORD)])


def _shared(settings: Mapping[str, Any], arguments: Mapping[str, Argument]) -> str:
    """Describe the arguments that are not settings of the class itself, for its docstring."""
    own = f"{', '.join(f'``{name}``' for name in settings)} and " if settings else ""
    also = f"Also accepts {own}the ``common`` arguments of :class:`QuantusMetric`"
    if not arguments:
        return f"{also}."
    listed = "\n".join(f"- ``{name}``: {argument.text}" for name, argument in arguments.items())
    return f"{also}, and those of the class of Quantus:\n\n{listed}"


def _module(model: ModelInterface[nn.Module] | None) -> nn.Module:
    """Unwrap the model; return one that is never called if there is none."""
    return nn.Identity() if model is None else model.model


def _as_numbers(value: Any) -> Any:
    """Return a setting as JSON holds it."""
    return value if isinstance(value, str) else np.asarray(value).tolist()


def _with_arguments(module: nn.Module, model: ModelInterface[nn.Module] | None) -> nn.Module:
    """Fill in the further arguments of the model."""
    # Quantus passes them in its own predict(), which is not called here.
    further = model.model_predict_kwargs if model else None
    return cast(nn.Module, partial(module, **further)) if further else module


def _one_channel(maps: NDArray[Any], images: NDArray[Any]) -> NDArray[Any]:
    """Reshape maps (N, ...) or (N, C, ...) to (N, 1, ...), with channels summed as in a comparison."""
    if maps.ndim == images.ndim - 1:
        return maps[:, None]
    return maps.sum(1, keepdims=True) if maps.ndim == images.ndim and maps.shape[1] != 1 else maps


def _masks(masks: NDArray[Any], images: NDArray[Any]) -> NDArray[np.bool_]:
    """Convert masks (N, ...) or (N, 1, ...) to bool (N, 1, ...); raise ValueError unless there is one for each image."""
    with_channel = masks[:, None] if masks.ndim == images.ndim - 1 else masks
    if with_channel.shape != (len(images), 1, *images.shape[2:]):
        raise ValueError(
            f"s_batch is {masks.shape}, x_batch {images.shape}; expected one mask for each image, (N, 1, ...) of its size."
        )
    found: NDArray[np.bool_] = with_channel > 0
    return found


def _refuse_other_counts(images: NDArray[Any], **batches: Any) -> None:
    """Raise ValueError if the images are a table (N, features), or a batch does not have one entry for each image."""
    if images.ndim <= _TABLE:
        raise ValueError(
            f"x_batch is {images.shape}, a table; the metrics need positions, as in signals (N, C, L), images (N, C, H, W) "
            "and volumes."
        )
    for name, batch in batches.items():
        if batch is not None and len(batch) != len(images):
            raise ValueError(f"{named(name)} has {len(batch)} entries, x_batch {len(images)}; expected one for each image.")
