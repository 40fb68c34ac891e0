"""A whole training by Lightning, in a folder that it can be resumed from.

It is special in one point: every random draw is a function of seed, epoch and place (of an example in its set, of a step
in its epoch), never of what was drawn before. So a run that was cut off, by Ctrl-C or by a lost machine, goes on from the
start of the epoch it was in and ends with the weights of a run that was not, bit by bit on the CPU, with any number of
worker processes.
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
    """What a training left behind.

    Args:
        score (float): the best validation score.
        epoch (int): the epoch that it was reached in, counted from 0; among several the one with the lowest validation loss.
        checkpoint (Path): weights of that epoch, under ``"state_dict"``; the model has them already.
        history (tuple of dict): what was logged, one entry per epoch, as in ``metrics.csv``.
    """

    score: float
    epoch: int
    checkpoint: Path
    history: tuple[dict[str, float], ...]


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
    """Train, keep the weights of the best epoch, and leave a folder that an interrupted training resumes from.

    The folder holds ``metrics.csv``, a row per epoch, ``checkpoints/best.ckpt`` with the weights of the epoch with the best
    ``val_score`` (among equal ones the lowest ``val_loss``), ``checkpoints/last.ckpt`` with everything at the start of the
    epoch that runs, and ``checkpoints/previous.ckpt`` with that of the epoch before. The first is there before the first
    step. Each is written beside its place and renamed, so that a kill or a full disk leaves the one before; there has to be
    room for four. After Ctrl-C, SIGTERM, SIGKILL or a crash, ``resume=True`` repeats the epoch that was cut off, and ends
    with the weights that an uninterrupted training has. A damaged ``last.ckpt`` is passed over with a warning. One process
    at a time trains in a folder.

    A training that goes on has to be the same one: seed, epochs, recipe of the task, and the numbers of examples are
    compared. A data set with a method ``digest()``, as :class:`~captum_softcam.data.LabelledImages` has it, is compared by
    that, too: with an image more or less, examples would change from one set to the other.

    Every example is drawn with random numbers of its own, a function of ``seed``, epoch and its number in the set; the
    global random state is left as found. When a single example is left over for the last batch of an epoch, it is left out,
    for batch normalisation cannot do with one. A validation example is never seen twice, in whatever number of processes.

    Cost: per epoch one forward and backward of every training example, and one forward of every validation example.

    Args:
        task (SoftCamTask): model, loss and recipe.
        train (Dataset): items (input, target), by number.
        validation (Dataset): the same, without augmentation.
        folder (path): where to write; made if it is not there.
        epochs (int): the learning rate falls over all of them. Default: 50
        batch_size (int): examples per step and process. Default: 12
        patience (int): stop after so many epochs without a better one, by score and loss as above. Default: never
        seed (int): of order, augmentation and dropout. Default: 0
        workers (int): processes that load the data. Default: 0, in this one
        precision (str): Lightning's, e.g. ``"16-mixed"`` on a GPU. Default: ``"32-true"``
        accelerator (str): Lightning's, e.g. ``"cpu"``. Default: ``"auto"``
        devices (int, str or list of int): Lightning's. Default: 1
        strategy (str): Lightning's, e.g. ``"ddp"`` for several processes. Default: ``"auto"``
        resume (bool): go on with the training in ``folder``, given the same arguments. Default: False
        show_progress (bool): a bar per epoch. Default: True

    Returns:
        TrainingResult: the best score; the model of ``task`` has the weights of that epoch, and is in eval mode.

    Raises:
        BlockingIOError: if another process trains in ``folder``.
        FileExistsError: if ``folder`` holds a training, and ``resume`` is False.
        FileNotFoundError: if it holds none, and ``resume`` is True.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the message says how to resume.
        OSError: if a file cannot be written; ``resume=True`` goes on once it can.
        ValueError: for an empty set, numbers out of range, settings that Lightning refuses, checkpoints of another model or
            training or all damaged, and what :class:`SoftCamTask` and the data sets refuse.

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
    """As :func:`train_classifier`, in a folder that this process owns already."""
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
    """Make a folder and work in it alone; the first of several processes does, for all. It goes if nothing is in it.

    Args:
        folder (Path): the folder.

    Yields:
        None: for the time of the block the folder is owned.

    Raises:
        BlockingIOError: if another process works there.
        OSError: if it cannot be made.
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
        with suppress(OSError):  # what is in it stays
            folder.rmdir()


def is_main_process() -> bool:
    """Whether this process is the one of several that writes and speaks."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be a whole number above 0; got {value}.")


def _check_sets(train: Any, validation: Any) -> None:
    for name, data in (("training", train), ("validation", validation)):
        if len(data) == 0:
            raise ValueError(f"the {name} set is empty; give at least one example.")


_FOR_GOING_ON = ("loops", "lr_schedulers", "optimizer_states")  # parts of a checkpoint besides weights


def has_checkpoint(folder: Path) -> bool:
    """Whether a training has begun in a folder, so that it can be resumed."""
    return any((folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS))


def _recipe(task: SoftCamTask, train: Any, validation: Any, seed: int, epochs: int) -> dict[str, Any]:
    """What a training is the same by when it goes on: plain values under names that a message can use."""
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
    """The number of examples of a set and, if it has one, its digest."""
    digest = getattr(data, "digest", None)
    return f"{len(data)} examples" + (f", digest {digest()}" if callable(digest) else "")


def _take_up(task: SoftCamTask, keeper: _Keeper, resume: bool) -> Path | None:
    """The checkpoint to go on from, if asked for, its history in the keeper; refuses what cannot go on or would be lost."""
    if not resume:
        if has_checkpoint(keeper.folder) and is_main_process():
            raise FileExistsError(
                f"'{shown(keeper.folder)}' holds a training already; resume it, choose another folder, or move it away."
            )
        return None
    path, content = newest_checkpoint(keeper.folder / "checkpoints")
    weights = task.state_dict()
    refuse_foreign(path, content, weights, keeper.recipe, _FOR_GOING_ON)
    keeper.rows, keeper.finished = content[NOTE]["rows"], content[NOTE]["finished"]
    if keeper.rows and not keeper.best_is_now():
        _read_best(task, keeper)
    elif keeper.finished and is_main_process():
        keeper.repair_best(content)
    last = path.with_name(LAST)
    if path != last and last.exists() and is_main_process():  # none where a kill came between two names: nothing is lost
        warnings.warn(
            f"'{shown(last)}' is damaged; the training goes on from '{path.name}', an epoch earlier.", stacklevel=4
        )
    return path


def _read_best(task: SoftCamTask, keeper: _Keeper) -> dict[str, Any]:
    """The best weights so far."""
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
        return Trainer(
            **settings,
            logger=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # _Order does it, and repeats no validation example
            deterministic="warn",
        )
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"these settings cannot be trained with: {reason(error)}.") from error


def _fit(trainer: Trainer, task: SoftCamTask, data: LightningDataModule, folder: Path, last: Path | None) -> None:
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    except SystemExit as end:  # what Lightning makes of Ctrl-C and SIGTERM
        if not has_checkpoint(folder):
            raise KeyboardInterrupt("the training stopped before its first step, and nothing was written") from end
        raise KeyboardInterrupt("the training stopped; resume=True repeats the epoch it was in and goes on") from end
    except torch.OutOfMemoryError as error:
        raise ValueError("the device is out of memory; try a smaller batch size, smaller images, or 16-mixed.") from error


def _finish(task: SoftCamTask, keeper: _Keeper) -> TrainingResult:
    """Put the best weights into the model and read the history from where every process can."""
    task.load_state_dict(_read_best(task, keeper))
    task.eval()
    history = read_history(keeper.folder)
    epoch = best_epoch(history)
    return TrainingResult(history[epoch]["val_score"], epoch, keeper.folder / "checkpoints" / BEST, history)


def read_history(folder: Path) -> tuple[dict[str, float], ...]:
    """The rows of ``metrics.csv``; none if no epoch has ended yet."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        return tuple({name: float(value) for name, value in row.items()} for row in csv.DictReader(file))


class _Keeper(Checkpoint):
    """Writes the folder: history, best and last checkpoint; stops when patience ends. Its state is in the checkpoints."""

    def __init__(self, folder: Path, patience: int | None, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self.patience = patience
        self.recipe = recipe
        self.rows: list[dict[str, float]] = []
        self.finished = False
        self.lr = math.nan
        self.files = WholeFiles()

    def best_is_now(self) -> bool:
        """Whether the model has the best weights so far: those of the epoch that ended last."""
        return best_epoch(self.rows) == len(self.rows) - 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 (Lightning's signature)
        """Begin the epoch anew: Lightning takes every checkpoint for one from the middle or the end of an epoch."""
        trainer.fit_loop.restarting = False
        trainer.should_stop = self.finished
        self._write_rows(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Save at a moment when nothing of an epoch is under way: schedules have moved on, no batch was drawn."""
        self.lr = float(trainer.optimizers[0].param_groups[0]["lr"])
        self._save_last(trainer)
        self._save_best(trainer)  # after a kill before it: when the training goes on from the last

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        row = {"epoch": float(trainer.current_epoch), "lr": self.lr}
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append(row)
        self._write_rows(trainer)
        if self.patience is not None and len(self.rows) - 1 - best_epoch(self.rows) >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Save the best weights first: of a training that is finished, nothing would be done again after a kill."""
        self._save_best(trainer)
        self.finished = True
        self._save_last(trainer)

    def repair_best(self, last: dict[str, Any]) -> None:
        """Write damaged best weights again from the last checkpoint, which has them."""
        path = self.folder / "checkpoints" / BEST
        if read_checkpoint(path) is None:
            self.files.note = last[NOTE]
            self.files.save_checkpoint({name: part for name, part in last.items() if name not in _FOR_GOING_ON}, path)

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
    """Seeds every step by its place, so that dropout does not depend on what was drawn before."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        torch.manual_seed(_seed_of(self.seed, 1, trainer.current_epoch, batch_idx, trainer.global_rank))


class _Data(LightningDataModule):
    """Loaders of both sets; the epoch comes from the trainer, for Lightning tells it to a sampler too late on resuming."""

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
        assert isinstance(self.trainer, Trainer)  # Lightning sets it before it asks for a loader
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
    """Pairs (epoch, number) in the order of the epoch, every ``world``-th of them from ``rank`` on.

    With a seed the order is a random one, its first examples repeated at the end where processes would differ in length.
    """

    def __init__(self, count: int, epoch: int, seed: int | None, place: tuple[int, int]) -> None:
        self.count = count
        self.epoch = epoch
        self.seed = seed
        self.rank, self.world = place

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
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
    """A data set whose items are drawn with random numbers of their own, by epoch and number."""

    def __init__(self, data: Any, seed: int) -> None:
        self.data = data
        self.seed = seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        with _own_random_state():
            seed = _seed_of(self.seed, 3, *place)
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            return self.data[place[1]]


def _seed_of(*numbers: int) -> int:
    """A seed of 32 bits that changes with each of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Leave the random states of the CPU as found."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


@contextmanager
def _deterministic() -> Iterator[None]:
    """Leave torch's choice of algorithms as found; Lightning changes it for good."""
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn_before = cudnn.benchmark, cudnn.deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark, cudnn.deterministic = cudnn_before


_NOT_FOR_USERS = (
    r"The '\w+' does not have many workers",  # the number is an argument, and on a CPU more gain nothing
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own call of torch
    r".*does not have a deterministic implementation",  # "warn" is asked for, and asked for knowingly
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice and advertisement back; warnings about the user's own doing stay."""
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
