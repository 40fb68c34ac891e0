"""The training of a SoftCAM model, or of a black box for comparison, as a Lightning module.

Classification loss and penalty are computed from the evidence of one forward.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from captum_softcam._names import closest, quoted
from captum_softcam.softcam.loss import ElasticNetEvidenceLoss
from captum_softcam.softcam.model import SoftCamModel, pooled
from captum_softcam.softcam.scores import (
    KINDS,
    accuracy,
    classification_loss,
    hoyer_sparsity,
    one_vs_rest_auc,
    refuse_mismatch,
)

__all__ = ["SoftCamTask"]

_SCORES = ("auc", "accuracy", "loss")


class SoftCamTask(LightningModule):
    r"""Train a SoftCAM model, or any classifier for comparison, by the recipe of the paper :cite:p:`djoumessi2026softcam`.

    .. math:: L = \mathrm{CE}\Big(\frac{1}{hw} \sum_p E(p),\; y\Big) + L_\mathrm{penalty}(E)

    with evidence :math:`E` (N, K, h, w) of one forward and targets :math:`y`. The optimizer is stochastic gradient descent
    with Nesterov momentum; the learning rate follows half a cosine over the epochs of the ``Trainer``.

    Logged for every epoch, over the whole of each set: ``train_loss`` and ``val_loss`` (of the classification, without the
    penalty), ``val_accuracy``, ``val_auc`` (one class against the rest, averaged over the classes; a class of all or no
    examples is left out, with a warning), ``val_score`` (higher is better; it selects the best epoch), and for SoftCAM
    models ``train_penalty``, ``val_penalty`` and ``val_sparsity`` (Hoyer's, of the evidence
    :cite:p:`hoyer2004sparseness`). The values are the same in all processes.

    Departures from the paper: none in the recipe; class weights, multi-label and binary targets are additions.

    Cost: one forward and one backward per step.

    Args:
        model (torch.nn.Module): a :class:`SoftCamModel`, or any module that returns logits (N, K).
        penalty (ElasticNetEvidenceLoss): on the evidence; for SoftCAM models, with ``reduction="mean"``. Default: None
        kind (str): ``"multiclass"`` with targets (N,) of class numbers, ``"multilabel"`` with targets (N, K) of 0 and 1, or
            ``"binary"`` with a single logit (N, 1) and targets (N,) of 0 and 1. Default: ``"multiclass"``
        class_weights (Tensor): (K,), for example of :func:`~captum_softcam.data.balanced_class_weights`. Multiclass: weight
            of each example by its class. Otherwise: weight of the presence of a label relative to its absence. Default: None
        score (str): ``"auc"``, ``"accuracy"`` or ``"loss"``, which selects the best epoch. Default: ``"auc"``
        lr (float): learning rate of the first epoch. Default: 1e-3
        final_lr (float): learning rate at the end of the cosine. Default: a tenth of ``lr``
        momentum (float): Nesterov momentum. Default: 0.9
        weight_decay (float): on all weights. Default: 5e-4

    Raises:
        TypeError: if ``model`` is not a module.
        ValueError: for a penalty on a model without evidence maps or with another reduction, an unknown ``kind`` or
            ``score``, or numbers out of range. Training raises it if logits and targets do not match, if the loss is not
            finite (the message names epoch and step), and if the AUC is undefined for all classes.

    Example::

        >>> task = SoftCamTask(convert_to_softcam(resnet50, num_classes=5), ElasticNetEvidenceLoss(1e-4, 4e-5))
        >>> lightning.Trainer(max_epochs=50).fit(task, train_loader, validation_loader)
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: ElasticNetEvidenceLoss | None = None,
        *,
        kind: str = "multiclass",
        class_weights: Tensor | None = None,
        score: str = "auc",
        lr: float = 1e-3,
        final_lr: float | None = None,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> None:
        super().__init__()
        _check_model(model, penalty)
        _check_choice("kind", kind, KINDS)
        _check_choice("score", score, _SCORES)
        self.model = model
        self.penalty = penalty
        self.kind = kind
        self.score = score
        self.lr = lr
        self.final_lr = lr / 10 if final_lr is None else final_lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        _check_recipe(self)
        self.class_weights: Tensor | None
        # Not persistent, because the recipe in the checkpoints contains them.
        self.register_buffer("class_weights", _checked_weights(class_weights), persistent=False)
        self._validation = _Outputs()
        self._left_out: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the logits (N, K) of ``inputs`` (N, ...)."""
        return cast(Tensor, self.model(inputs))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss with penalty, a scalar, of a batch of inputs and targets; called by Lightning."""
        logits, targets, evidence = self._outputs(batch)
        loss = classification_loss(logits, targets, self.kind, self.class_weights)
        self._log_mean("train_loss", loss, len(logits), prog_bar=True)
        if evidence is not None and self.penalty is not None:
            penalty = self.penalty(evidence)
            self._log_mean("train_penalty", penalty, len(logits))
            loss = loss + penalty
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, step {batch_idx}; try a smaller learning rate "
                f"(now {self.lr:g}), a weaker penalty, or full precision, and look for inputs that are not finite."
            )
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _batch_idx: int) -> None:
        """Keep the outputs for a batch of inputs and targets; called by Lightning."""
        logits, targets, evidence = self._outputs(batch)
        of_evidence = logits.new_zeros(len(logits), 2)
        if evidence is not None:
            of_evidence[:, 0] = 0 if self.penalty is None else self.penalty(evidence)
            of_evidence[:, 1] = hoyer_sparsity(evidence)
        self._validation.update(logits, targets, of_evidence)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation set; called by Lightning."""
        logits, targets, of_evidence = self._validation.compute()
        self._validation.reset()
        areas = one_vs_rest_auc(logits, targets, self.kind)
        self._tell_left_out(areas)
        values = {
            "loss": classification_loss(logits, targets, self.kind, self.class_weights),
            "accuracy": accuracy(logits, targets, self.kind),
            "auc": areas.nanmean(),
        }
        values["score"] = -values["loss"] if self.score == "loss" else values[self.score]
        if isinstance(self.model, SoftCamModel):
            means = dict(zip(("penalty", "sparsity"), of_evidence.mean(0), strict=True))
            values |= means if self.penalty is not None else {"sparsity": means["sparsity"]}
        # All processes have gathered the same outputs, so that the mean over them is the value itself.
        for name, value in values.items():
            self._log_mean(f"val_{name}", value, 1, prog_bar=name in ("accuracy", "auc"))

    def configure_optimizers(self) -> Any:
        """Create optimizer and schedule; called by Lightning."""
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise ValueError(
                f"the learning rate falls over the epochs, so Trainer needs max_epochs >= 1; got {quoted(epochs)}."
            )
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not parameters:
            raise ValueError("no parameter of the model requires a gradient; there is nothing to train.")
        # SGD refuses Nesterov without momentum.
        optimizer = torch.optim.SGD(
            parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.momentum > 0
        )
        floor = self.final_lr / self.lr
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: floor + (1 - floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _outputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits, targets and evidence of one forward, at least in single precision."""
        # Under 16-mixed precision, sums over the cells of the evidence would overflow.
        inputs, targets = batch
        # The logits are pooled from the evidence below, because calling the model would compute the evidence a second time.
        evidence = self.model.evidence_maps(inputs) if isinstance(self.model, SoftCamModel) else None
        if evidence is not None:
            evidence = _at_least_single(evidence)
        logits = self.model(inputs) if evidence is None else pooled(evidence)
        refuse_mismatch(logits, targets, self.kind)
        return _at_least_single(logits), targets, evidence

    def _log_mean(self, name: str, value: Tensor, size: int, prog_bar: bool = False) -> None:
        self.log(name, value, on_step=False, on_epoch=True, sync_dist=True, batch_size=size, prog_bar=prog_bar)

    def _tell_left_out(self, areas: Tensor) -> None:
        """Warn once of classes without an AUC; raise ValueError if no class has one and it selects the best epoch."""
        left_out = areas.isnan().nonzero().flatten().tolist()
        if len(left_out) == len(areas) and self.score == "auc":
            raise ValueError(
                "the validation set has no class with examples inside and outside of it, so its AUC is undefined; validate "
                "on examples of several classes, or choose score='loss'."
            )
        if left_out and left_out != self._left_out and self.trainer.is_global_zero:
            numbers = ", ".join(map(str, left_out[:8])) + (", …" if len(left_out) > 8 else "")
            warnings.warn(
                f"val_auc leaves out class {numbers}: the validation set has no examples of it, or no others.",
                stacklevel=2,
            )
        self._left_out = left_out


class _Outputs(Metric):
    """Outputs for every example, gathered from all batches and processes.

    Scores are computed from all outputs because Lightning's mean over processes needs equal numbers of examples.
    """

    full_state_update = False
    logits: list[Tensor]
    targets: list[Tensor]
    of_evidence: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "targets", "of_evidence"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor, of_evidence: Tensor) -> None:
        """Keep a batch; ``of_evidence`` (N, 2) holds penalty and sparsity."""
        self.logits.append(logits)
        self.targets.append(targets)
        self.of_evidence.append(of_evidence)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return all logits (N, K), all targets, and penalty and sparsity (N, 2)."""
        return dim_zero_cat(self.logits), dim_zero_cat(self.targets), dim_zero_cat(self.of_evidence)


def _at_least_single(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


def _check_model(model: nn.Module, penalty: ElasticNetEvidenceLoss | None) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"SoftCamTask needs a torch.nn.Module; got {type(model).__name__}.")
    if penalty is None:
        return
    if not isinstance(model, SoftCamModel):
        raise ValueError(
            f"a penalty needs evidence maps, and {type(model).__name__} has none; convert it with convert_to_softcam, or "
            "leave the penalty out."
        )
    if penalty.reduction != "mean":
        raise ValueError(
            f"the penalty has reduction {quoted(penalty.reduction)}; expected 'mean', because others depend on the batch "
            "size and on the number of processes."
        )


def _check_choice(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(f"{what} {quoted(name)} is unknown. {closest(name, known)}")


def _check_recipe(task: SoftCamTask) -> None:
    if not (0 < task.final_lr <= task.lr < math.inf):
        raise ValueError(f"learning rates must be 0 < final_lr <= lr; got {quoted(task.final_lr)} and {quoted(task.lr)}.")
    if not (0 <= task.momentum < 1 and 0 <= task.weight_decay < math.inf):
        raise ValueError(
            f"momentum must lie in [0, 1) and weight_decay must be >= 0; got {quoted(task.momentum)} and "
            f"{quoted(task.weight_decay)}."
        )


def _checked_weights(weights: Tensor | None) -> Tensor | None:
    if weights is None:
        return None
    if weights.dim() != 1 or not (weights.isfinite().all() and (weights > 0).all()):
        raise ValueError(f"class_weights must be finite and above 0, one per class (K,); got {quoted(weights.tolist())}.")
    return weights.clone()
