"""The metrics as classes of Quantus, to be dropped into a script that speaks Quantus.

They take what Quantus' own classes take and give one float per sample, the one that a comparison shows: channels first, one
map (N, 1, ...) per image, signed, of any number of dimensions. Maps without positive evidence are measured and not refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import quantus
import torch
from numpy.typing import NDArray
from quantus.helpers.enums import DataType, EvaluationCategory, ModelType, ScoreDirection
from quantus.helpers.model.model_interface import ModelInterface
from torch import Tensor, nn

from captum_softcam._names import closest
from captum_softcam._tail import refuse_train_mode
from captum_softcam.metrics import METRICS
from captum_softcam.metrics.metric import Curve, Metric
from captum_softcam.metrics.trial import PATCHES, Explained, Trial

Array = NDArray[Any]


class QuantusMetric(quantus.Metric[list[float]]):
    """What the metrics as classes of Quantus share: one of ``METRICS`` behind Quantus' way to call it.

    Args:
        patches (int): per side, where a metric takes patches away. Default: 8
        seed (int): of random subsets and noise, the same for every sample. Default: 0
        abs (bool): measure the magnitudes of the maps; negative evidence then counts as evidence. Default: False
        normalise (bool): pass each map through ``normalise_func`` first. Default: False
        normalise_func (callable): of Quantus. Default: its ``normalise_by_max``
        normalise_func_kwargs (dict): its further arguments. Default: none
        return_aggregate (bool): give one number for all samples, NaN if one score is. Default: False
        aggregate_func (callable): what makes that number. Default: ``numpy.mean``
        default_plot_func (callable): for ``plot``. Default: none
        disable_warnings (bool): changes nothing, for there are none. Default: True
        display_progressbar (bool): over the batches. Default: False
        **settings: of the metric; its class lists them.

    Raises:
        ValueError: for a setting that the metric does not have.
    """

    row: ClassVar[Metric]
    data_applicability = {DataType.IMAGE, DataType.TIMESERIES}  # noqa: RUF012 - as Quantus declares it
    model_applicability = {ModelType.TORCH}  # noqa: RUF012 - as Quantus declares it

    def __init_subclass__(cls, *, row: str) -> None:
        super().__init_subclass__()
        cls.row = METRICS[row]
        cls.name = cls.row.title
        cls.score_direction = ScoreDirection.HIGHER if cls.row.higher_is_better else ScoreDirection.LOWER
        cls.evaluation_category = EvaluationCategory[cls.row.category.upper()]

    def __init__(
        self,
        *,
        patches: int = PATCHES,
        seed: int = 0,
        abs: bool = False,
        normalise: bool = False,
        normalise_func: Callable[..., Array] | None = None,
        normalise_func_kwargs: dict[str, Any] | None = None,
        return_aggregate: bool = False,
        aggregate_func: Callable[..., Any] | None = None,
        default_plot_func: Callable[..., Any] | None = None,
        disable_warnings: bool = True,
        display_progressbar: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            abs=abs,
            normalise=normalise,
            normalise_func=normalise_func,
            normalise_func_kwargs=normalise_func_kwargs,
            return_aggregate=return_aggregate,
            aggregate_func=aggregate_func or np.mean,
            default_plot_func=default_plot_func,
            disable_warnings=disable_warnings,
            display_progressbar=display_progressbar,
        )
        self._refuse_unknown(settings)
        self.settings = {**self.row.settings, **settings}
        self.patches = patches
        self.seed = seed
        self.a_axes = ()  # so that Quantus does not work out, for want of it, which axes of the images a map has

    def _refuse_unknown(self, settings: dict[str, Any]) -> None:
        for name in settings.keys() - self.row.settings.keys():
            known = [*self.row.settings, *inspect.signature(QuantusMetric).parameters]
            raise ValueError(f"{type(self).__name__} has no setting {name!r}. {closest(name, known)}")

    def __call__(
        self,
        model: nn.Module | None,
        x_batch: Array,
        y_batch: Array,
        a_batch: Array | None = None,
        s_batch: Array | None = None,
        channel_first: bool | None = True,
        explain_func: Callable[..., Array] | None = None,
        explain_func_kwargs: dict[str, Any] | None = None,
        model_predict_kwargs: dict[str, Any] | None = None,
        softmax: bool | None = None,
        device: str | None = None,
        batch_size: int = 64,
    ) -> list[float]:
        """Scores of the samples, one float each, NaN where undefined.

        Args:
            model (torch.nn.Module): images -> logits (N, K), in eval mode; None will do where it costs no forward.
            x_batch (ndarray): images (N, C, ...).
            y_batch (ndarray): the class that is explained of each, (N,).
            a_batch (ndarray): maps (N, 1, ...) or (N, ...). Default: those of ``explain_func``, batch by batch
            s_batch (ndarray): masks (N, 1, ...) or (N, ...), above 0 where the evidence lies; localisation needs them.
            channel_first (bool): None lets Quantus guess. Default: True
            explain_func (callable): ``(model=, inputs=, targets=, **explain_func_kwargs)`` -> maps.
            explain_func_kwargs (dict): its further arguments. Default: none
            model_predict_kwargs (dict): further arguments of the model. Default: none
            softmax (bool): changes nothing: a metric takes logits or probabilities as its formula has it.
            device (str): passed on to ``explain_func``; images go to where the model is.
            batch_size (int): samples at a time; no score depends on it. Default: 64

        Raises:
            ValueError: if model, masks or ``explain_func`` are needed and missing, or the model is in train mode.
        """
        self._refuse_missing(model, a_batch, s_batch, explain_func)
        scores: list[float] = super().__call__(
            model=model,
            x_batch=np.asarray(x_batch),
            y_batch=np.asarray(y_batch),
            a_batch=None,  # Quantus would refuse maps without positive evidence: custom_preprocess hands them on
            s_batch=None if s_batch is None else np.asarray(s_batch),
            channel_first=channel_first,
            explain_func=explain_func or _refuse_to_explain,
            explain_func_kwargs=dict(explain_func_kwargs or {}),
            model_predict_kwargs=model_predict_kwargs,
            softmax=False,
            device=device,
            batch_size=batch_size,
            custom_batch=None if a_batch is None else np.asarray(a_batch),
        )
        return scores

    def _refuse_missing(self, model: nn.Module | None, *needed: object) -> None:
        maps, masks, explain_func = needed
        name = type(self).__name__
        if maps is None and explain_func is None:
            raise ValueError(f"{name} has nothing to measure; give maps as a_batch, or an explain_func that makes them.")
        if masks is None and self.row.category == "localisation":
            raise ValueError(f"{name} compares maps with masks; give them as s_batch (N, 1, ...).")
        if model is None and self.row.forwards:
            raise ValueError(f"{name} asks the model; got None.")
        if model is not None:
            refuse_train_mode(model)

    def custom_preprocess(
        self,
        *,
        model: ModelInterface[nn.Module] | None,
        x_batch: Array,
        y_batch: Array,
        custom_batch: Array | None,
        **_: Any,
    ) -> dict[str, Any]:
        """Called by Quantus: hands on the maps that were given, or makes them batch by batch."""
        made = _Maps(lambda part: self._explain(_module(model), x_batch[part], y_batch[part]), len(x_batch))
        return {"a_batch": made if custom_batch is None else custom_batch, "custom_batch": None}

    def evaluate_batch(
        self,
        model: ModelInterface[nn.Module] | None,
        x_batch: Array,
        y_batch: Array,
        a_batch: Array,
        s_batch: Array | None = None,
        **_: Any,
    ) -> list[float]:
        """Called by Quantus: scores of a batch."""
        module = _module(model)
        like = next(module.parameters(), torch.empty(0))

        def maps(values: Array) -> Tensor:
            return torch.tensor(self._prepared(_with_channel(values, x_batch))).to(like.device)

        def explain(images: Tensor) -> Tensor:
            return maps(self._explain(module, images.cpu().numpy(), y_batch))

        trial = Trial(
            _filled_in(module, model),
            torch.tensor(x_batch).to(like),
            torch.tensor(y_batch).to(like.device, torch.long),
            None if s_batch is None else torch.tensor(_with_channel(s_batch, x_batch) > 0).to(like.device),
            patches=self.patches,
            seed=self.seed,
        )
        scores = self.row.function(Explained(trial, maps(a_batch), explain), **self.settings)
        trial.close()
        return list((scores.area if isinstance(scores, Curve) else scores).tolist())

    def interpret_scores(self) -> None:
        """Print what the metric measures."""
        print(inspect.getdoc(type(self)))

    def _explain(self, module: nn.Module, images: Array, targets: Array) -> Array:
        return np.asarray(self.explain_func(model=module, inputs=images, targets=targets, **self.explain_func_kwargs))

    def _prepared(self, maps: Array) -> Array:
        """Maps as ``normalise`` and ``abs`` want them, each by itself, so that no score depends on the batch."""
        if self.normalise and self.normalise_func:
            maps = np.concatenate([self.normalise_func(maps[i : i + 1]) for i in range(len(maps))])
        return np.abs(maps) if self.abs else maps


class _Maps(Sequence[Array]):
    """Maps that are made when a batch of them is asked for."""

    def __init__(self, make: Callable[[slice], Array], count: int) -> None:
        self._make = make
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: Any) -> Any:
        return self._make(part)


def _module(model: ModelInterface[nn.Module] | None) -> nn.Module:
    """The model that Quantus has wrapped; one that is never asked where there is none."""
    return nn.Identity() if model is None else model.get_model()


def _filled_in(module: nn.Module, model: ModelInterface[nn.Module] | None) -> nn.Module:
    """The model with the further arguments that Quantus was given for it."""
    further = model.model_predict_kwargs if model else {}
    return cast("nn.Module", partial(module, **further)) if further else module


def _with_channel(values: Array, images: Array) -> Array:
    """Maps or masks (N, ...) as (N, 1, ...)."""
    return values[:, None] if values.ndim == images.ndim - 1 else values


def _refuse_to_explain(**_: Any) -> Array:
    raise ValueError("the metric looks at maps of other images, too; give the explain_func that makes them.")


# ruff: noqa

class PointingGame(QuantusMetric, row="pointing_game"):
    """x"""


class Deletion(QuantusMetric, row="deletion"):
    """x"""


class AverageDrop(QuantusMetric, row="average_drop"):
    """x"""
