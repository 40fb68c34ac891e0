"""Training by Lightning, in a folder that an interrupted run can be resumed from.

All random numbers are functions of seed, epoch and index (of an example in its set, of a step in its epoch), and do not
depend on earlier draws. An interrupted run therefore resumes from the start of its epoch, and ends with the weights of an
uninterrupted one: equal to the bit on the CPU, with any number of worker processes.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader, Dataset, Sampler

from captum_softcam._files import owned, remove_leftovers, write_text
from captum_softcam._names import reason, shown
from captum_softcam.softcam.checkpoints import (
    BEST,
    LAST,
    NOTE,
    PREVIOUS,
    WholeFiles,
    newest_checkpoint,
    read_checkpoint,
    refuse_foreign,
)
from captum_softcam.softcam.scores import best_epoch
from captum_softcam.softcam.task import SoftCamTask

__all__ = [
    "TrainingResult",
    "has_checkpoint",
    "is_main_process",
    "owned_folder",
    "read_history",
    "train_classifier",
    "train_in_folder",
]


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Args:
        score (float): best validation score.
        epoch (int): its epoch, counted from 0; among equal scores the one with the lowest validation loss.
        checkpoint (Path): weights of that epoch, under ``"state_dict"``; the model has them already.
        history (tuple of dict): logged values, one entry per epoch, as in ``metrics.csv``.
    """

    score: float
    epoch: int
    checkpoint: Path
    history: tuple[dict[str, float], ...]

    def __repr__(self) -> str:
        epochs, checkpoint = len(self.history), shown(self.checkpoint)
        return f"TrainingResult(score={self.score:.4g}, epoch={self.epoch} of {epochs}, checkpoint={checkpoint!r})"


def train_classifier(
    task: SoftCamTask,
    train: Dataset[Any],
    validation: Dataset[Any],
    folder: str | Path,
    *,
    epochs: int = 50,
    batch_size: int = 12,
    patience: int | None = None,
    seed: int = 0,
    workers: int = 0,
    precision: Any = "32-true",
    accelerator: str = "auto",
    devices: Any = 1,
    strategy: str = "auto",
    resume: bool = False,
    show_progress: bool = True,
) -> TrainingResult:
    """Train a model, restore the weights of the best epoch, and write a folder that an interrupted run can be resumed from.

    The folder contains ``metrics.csv`` with a row per epoch, ``checkpoints/best.ckpt`` with the weights of the epoch with
    the best ``val_score`` (among equal scores the one with the lowest ``val_loss``), ``checkpoints/last.ckpt`` with the
    state at the start of the current epoch, and ``checkpoints/previous.ckpt`` with that of the epoch before. ``last.ckpt``
    exists before the first step. Files are written under a temporary name and renamed, so that a kill or a full disk leaves
    the previous ones; there has to be room for four. After Ctrl-C, SIGTERM, SIGKILL or a crash, ``resume=True`` repeats the
    interrupted epoch, and ends with the weights of an uninterrupted training. A damaged ``last.ckpt`` is skipped with a
    warning. Only one process at a time can train in a folder.

    A training can only be resumed with the same settings: seed, epochs, recipe of the task, and the numbers of examples are
    compared. Data sets with a method ``digest()``, such as :class:`~captum_softcam.data.LabelledImages`, are also compared
    by their digest, because a random split of other images would move examples between training and validation.

    Every example is loaded with its own random numbers, a function of ``seed``, epoch and its index in the set. The global
    random state is restored. If a single example remains for the last batch of an epoch, it is left out, because batch
    normalisation needs two. Validation examples are never repeated, with any number of processes.

    Cost: per epoch one forward and backward of every training example, and one forward of every validation example.

    Args:
        task (SoftCamTask): model, loss and recipe.
        train (Dataset): items (input, target), by index.
        validation (Dataset): the same, without augmentation.
        folder (path): output folder, created if it does not exist.
        epochs (int): number of epochs; the learning rate decreases over all of them. Default: 50
        batch_size (int): examples per step and process. Default: 12
        patience (int): stop after this number of epochs without a better one, by score and loss. Default: never
        seed (int): of order, augmentation and dropout. Default: 0
        workers (int): processes that load the data. Default: 0, in the main process
        precision (str): argument of Lightning's ``Trainer``, e.g. ``"16-mixed"`` on a GPU. Default: ``"32-true"``
        accelerator (str): argument of the ``Trainer``, e.g. ``"cpu"``. Default: ``"auto"``
        devices (int, str or list of int): argument of the ``Trainer``. Default: 1
        strategy (str): argument of the ``Trainer``, e.g. ``"ddp"`` for several processes. Default: ``"auto"``
        resume (bool): whether to resume the training in ``folder``, with the same arguments. Default: False
        show_progress (bool): whether to show a progress bar per epoch. Default: True

    Returns:
        TrainingResult: best score and history; the model of ``task`` has the weights of that epoch, in eval mode.

    Raises:
        BlockingIOError: if another process trains in ``folder``.
        FileExistsError: if ``folder`` contains a training, and ``resume`` is False.
        FileNotFoundError: if it contains none, and ``resume`` is True.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the message explains how to resume.
        OSError: if a file cannot be written; the training can be resumed.
        ValueError: for an empty set, numbers out of range, settings that Lightning refuses, and checkpoints of another model
            or training or damaged ones; also raised by :class:`SoftCamTask` and the data sets.

    Example::

        >>> result = train_classifier(task, train, validation, "run", epochs=20, patience=5)
        >>> result.checkpoint
        PosixPath('run/checkpoints/best.ckpt')
    """
    folder = Path(folder)
    with owned_folder(folder):
        return train_in_folder(
            task,
            train,
            validation,
            folder,
            epochs=epochs,
            batch_size=batch_size,
            patience=patience,
            seed=seed,
            workers=workers,
            precision=precision,
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            resume=resume,
            show_progress=show_progress,
        )


def train_in_folder(
    task: SoftCamTask,
    train: Dataset[Any],
    validation: Dataset[Any],
    folder: Path,
    *,
    epochs: int,
    batch_size: int,
    patience: int | None,
    seed: int,
    workers: int,
    precision: Any,
    accelerator: str,
    devices: Any,
    strategy: str,
    resume: bool,
    show_progress: bool = True,
) -> TrainingResult:
    """Train as :func:`train_classifier` does, in a folder that this process has locked already."""
    _check_numbers(epochs=epochs, batch_size=batch_size, patience=1 if patience is None else patience)
    _check_sets(train, validation)
    keeper = _Keeper(folder, patience, _recipe(task, train, validation, seed, epochs))
    last = _take_up(task, keeper, resume)
    with _quiet(), _deterministic(), _own_random_state():
        trainer = _trainer(
            max_epochs=epochs,
            callbacks=[_StepSeed(seed), keeper, *([TQDMProgressBar()] if show_progress else [])],
            plugins=[keeper.files],
            enable_progress_bar=show_progress,
            precision=precision,
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            default_root_dir=folder,
        )
        _fit(trainer, task.train(), _Data(train, validation, batch_size, workers, seed), folder, last)
    return _finish(task, keeper)


@contextmanager
def owned_folder(folder: Path) -> Iterator[None]:
    """Create a folder and lock it; of several processes the main one does. It is removed if it stays empty.

    Args:
        folder (Path): the folder.

    Yields:
        None: while the folder is locked.

    Raises:
        BlockingIOError: if another process has locked it.
        OSError: if it cannot be created.
    """
    if not is_main_process():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with owned(folder):
            remove_leftovers(folder / "checkpoints")
            yield
    finally:
        with suppress(OSError):  # the folder is not empty
            folder.rmdir()


def is_main_process() -> bool:
    """Check whether this is the process that writes files and prints, of several that train together."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be a whole number above 0; got {value}.")


def _check_sets(train: Any, validation: Any) -> None:
    for name, data in (("training", train), ("validation", validation)):
        if len(data) == 0:
            raise ValueError(f"the {name} set is empty; pass at least one example.")


_FOR_RESUMING = ("loops", "lr_schedulers", "optimizer_states")  # entries of a checkpoint besides the weights


def has_checkpoint(folder: Path) -> bool:
    """Check whether a folder contains a training that can be resumed."""
    return any((folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS))


def _recipe(task: SoftCamTask, train: Any, validation: Any, seed: int, epochs: int) -> dict[str, Any]:
    """Return the settings that must not change when a training is resumed, by names for messages."""
    weights, penalty = task.class_weights, task.penalty
    return {
        "seed": seed,
        "epochs": epochs,
        **{name: getattr(task, name) for name in ("kind", "score", "lr", "final_lr", "momentum", "weight_decay")},
        "class_weights": None if weights is None else weights.tolist(),
        "penalty": None if penalty is None else [penalty.lambda_l1, penalty.lambda_l2],
        "the training set": _named(train),
        "the validation set": _named(validation),
    }


def _named(data: Any) -> str:
    """Describe a set by its number of examples and its digest, if it has one."""
    digest = getattr(data, "digest", None)
    return f"{len(data)} examples" + (f", digest {digest()}" if callable(digest) else "")


def _take_up(task: SoftCamTask, keeper: _Keeper, resume: bool) -> Path | None:
    """Return the checkpoint to resume from, and load its history; raise an error if a training would be overwritten."""
    if not resume:
        if has_checkpoint(keeper.folder) and is_main_process():
            raise FileExistsError(
                f"'{shown(keeper.folder)}' holds a training already; resume it, choose another folder, or move it away."
            )
        return None
    path, content = newest_checkpoint(keeper.folder / "checkpoints")
    weights = task.state_dict()
    refuse_foreign(path, content, weights, keeper.recipe, _FOR_RESUMING)
    keeper.rows, keeper.finished = content[NOTE]["rows"], content[NOTE]["finished"]
    if keeper.rows and not keeper.best_is_now():
        _read_best(task, keeper)
    elif keeper.finished and is_main_process():
        keeper.repair_best(content)
    last = path.with_name(LAST)
    if path != last and last.exists() and is_main_process():  # without a file, a kill came between two renames
        warnings.warn(
            f"'{shown(last)}' is damaged; the training resumes from '{path.name}', an epoch earlier.", stacklevel=4
        )
    return path


def _read_best(task: SoftCamTask, keeper: _Keeper) -> dict[str, Any]:
    """Read the best weights so far."""
    path = keeper.folder / "checkpoints" / BEST
    content = read_checkpoint(path)
    if content is None:
        raise ValueError(
            f"'{shown(path)}' is missing or damaged, and with it the weights of the best epoch, {best_epoch(keeper.rows)}; "
            "put a copy of it back, or train anew in another folder."
        )
    refuse_foreign(path, content, task.state_dict(), keeper.recipe)
    weights: dict[str, Any] = content["state_dict"]
    return weights


def _trainer(**settings: Any) -> Trainer:
    try:
        # No sanity check, because its first few batches may be of one class, whose AUC is undefined. deterministic=True
        # would raise an error in the backward pass of nn.AdaptiveAvgPool2d on a GPU, where "warn" only warns.
        return Trainer(
            **settings,
            logger=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # Lightning's repeats validation examples; _Order does not
            deterministic="warn",
        )
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"these settings cannot be trained with: {reason(error)}.") from error


def _fit(trainer: Trainer, task: SoftCamTask, data: LightningDataModule, folder: Path, last: Path | None) -> None:
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    except SystemExit as end:  # raised by Lightning after Ctrl-C and SIGTERM
        if not has_checkpoint(folder):
            raise KeyboardInterrupt("the training stopped before its first step, and nothing was written") from end
        raise KeyboardInterrupt("the training stopped; resume=True repeats the epoch it was in and goes on") from end
    except torch.OutOfMemoryError as error:
        raise ValueError("the device is out of memory; try a smaller batch size, smaller images, or 16-mixed.") from error


def _finish(task: SoftCamTask, keeper: _Keeper) -> TrainingResult:
    """Load the best weights into the model, and read the history from the file that all processes can read."""
    task.load_state_dict(_read_best(task, keeper))
    task.eval()
    history = read_history(keeper.folder)
    epoch = best_epoch(history)
    return TrainingResult(history[epoch]["val_score"], epoch, keeper.folder / "checkpoints" / BEST, history)


def read_history(folder: Path) -> tuple[dict[str, float], ...]:
    """Read the rows of ``metrics.csv``; none if no epoch has ended yet."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        return tuple({name: float(value) for name, value in row.items()} for row in csv.DictReader(file))


class _Keeper(Checkpoint):
    """Callback that writes history, best and last checkpoint, and stops a training when its patience ends."""

    def __init__(self, folder: Path, patience: int | None, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self.patience = patience
        self.recipe = recipe
        self.rows: list[dict[str, float]] = []
        self.finished = False
        self.lr = math.nan
        self.files = WholeFiles()

    def best_is_now(self) -> bool:
        """Check whether the last epoch was the best one, so that the model has the best weights."""
        return best_epoch(self.rows) == len(self.rows) - 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 (Lightning's signature)
        """Begin the epoch again, because Lightning expects checkpoints from the middle or the end of one."""
        trainer.fit_loop.restarting = False
        trainer.should_stop = self.finished
        self._write_rows(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Save between two epochs, when schedules have advanced and no batch was drawn."""
        self.lr = float(trainer.optimizers[0].param_groups[0]["lr"])
        self._save_last(trainer)
        self._save_best(trainer)  # after last.ckpt: if a kill comes in between, the resumed training saves it

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        row = {"epoch": float(trainer.current_epoch), "lr": self.lr}
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append(row)
        self._write_rows(trainer)
        if self.patience is not None and len(self.rows) - 1 - best_epoch(self.rows) >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Save the best weights before the mark that the training is finished, after which nothing is repeated."""
        self._save_best(trainer)
        self.finished = True
        self._save_last(trainer)

    def repair_best(self, last: dict[str, Any]) -> None:
        """Restore damaged best weights from the last checkpoint of a finished training, if that has them."""
        path = self.folder / "checkpoints" / BEST
        if read_checkpoint(path) is None:
            self.files.note = last[NOTE]
            self.files.save_checkpoint({name: part for name, part in last.items() if name not in _FOR_RESUMING}, path)

    def _save_last(self, trainer: Trainer) -> None:
        self._save(trainer, LAST, weights_only=False)

    def _save_best(self, trainer: Trainer) -> None:
        if self.rows and self.best_is_now():
            self._save(trainer, BEST, weights_only=True)

    def _save(self, trainer: Trainer, name: str, weights_only: bool) -> None:
        self.files.note = {"rows": self.rows, "finished": self.finished, "recipe": self.recipe}
        trainer.save_checkpoint(self.folder / "checkpoints" / name, weights_only=weights_only)

    def _write_rows(self, trainer: Trainer) -> None:
        if not self.rows or not trainer.is_global_zero:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self.rows[0]))
        writer.writeheader()
        writer.writerows({**row, "epoch": int(row["epoch"])} for row in self.rows)
        write_text(self.folder / "metrics.csv", text.getvalue())


class _StepSeed(Callback):
    """Callback that seeds every step, so that dropout does not depend on earlier draws."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        # The second number keeps the random streams apart: 1 for steps, 2 for the order, 3 for examples.
        torch.manual_seed(_seed_of(self.seed, 1, trainer.current_epoch, batch_idx, trainer.global_rank))


class _Data(LightningDataModule):
    """Loaders of both sets.

    The epoch is read from the trainer, because on resuming Lightning calls ``set_epoch`` of a sampler too late.
    """

    def __init__(self, train: Any, validation: Any, batch_size: int, workers: int, seed: int) -> None:
        super().__init__()
        self.sets = train, validation
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        trainer = self._running()
        order = _Order(len(self.sets[0]), trainer.current_epoch, self.seed, (trainer.global_rank, trainer.world_size))
        return self._loader(self.sets[0], order, drop_last=len(order) > 1 and len(order) % self.batch_size == 1)

    def val_dataloader(self) -> DataLoader[Any]:
        trainer = self._running()
        order = _Order(len(self.sets[1]), 0, None, (trainer.global_rank, trainer.world_size))
        return self._loader(self.sets[1], order, drop_last=False)

    def _running(self) -> Trainer:
        assert isinstance(self.trainer, Trainer)  # set by Lightning before it requests a loader
        return self.trainer

    def _loader(self, data: Any, order: _Order, drop_last: bool) -> DataLoader[Any]:
        return DataLoader(
            _Drawn(data, self.seed),
            self.batch_size,
            sampler=order,
            num_workers=self.workers,
            drop_last=drop_last,
            pin_memory=torch.cuda.is_available(),
        )


class _Order(Sampler[tuple[int, int]]):
    """Sampler of pairs (epoch, index) in the order of the epoch: every ``world``-th of them, starting at ``rank``.

    With a seed the order is random, and its first examples are repeated at the end, so that all processes have equally many.
    """

    def __init__(self, count: int, epoch: int, seed: int | None, place: tuple[int, int]) -> None:
        self.count = count
        self.epoch = epoch
        self.seed = seed
        self.rank, self.world = place

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.seed is None:
            return len(range(self.rank, self.count, self.world))
        return math.ceil(self.count / self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, number) for number in self._numbers()[self.rank :: self.world])

    def _numbers(self) -> list[int]:
        if self.seed is None:
            return list(range(self.count))
        order = np.random.default_rng((self.seed, 2, self.epoch)).permutation(self.count)
        return [int(number) for number in np.resize(order, len(self) * self.world)]


class _Drawn(Dataset[Any]):
    """Data set whose items are loaded with their own random numbers, by epoch and index."""

    def __init__(self, data: Any, seed: int) -> None:
        self.data = data
        self.seed = seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        with _own_random_state():
            seed = _seed_of(self.seed, 3, *place)
            # Not torch.manual_seed, which also seeds the GPUs: their states are not restored here.
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            return self.data[place[1]]


def _seed_of(*numbers: int) -> int:
    """Derive a seed of 32 bits from several numbers."""
    # 32 bits, because np.random.seed refuses larger numbers.
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Restore the random states of the CPU."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


@contextmanager
def _deterministic() -> Iterator[None]:
    """Restore torch's choice of algorithms, which Lightning changes permanently."""
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn_before = cudnn.benchmark, cudnn.deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark, cudnn.deterministic = cudnn_before


_NOT_FOR_USERS = (
    r"The '\w+' does not have many workers",  # the number is an argument of the user
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # a call by Lightning itself
    r".*does not have a deterministic implementation",  # from deterministic="warn"
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress advice and advertisements of Lightning, but not warnings that concern the user."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message in _NOT_FOR_USERS:
            warnings.filterwarnings("ignore", message)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(logging.WARNING)
            stack.callback(logger.setLevel, level)
        yield
