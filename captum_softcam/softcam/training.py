"""A whole training by Lightning, in a folder that it can be resumed from.

It is special in one point: every random draw is a function of seed, epoch and place (of an example in its set, of a step
in its epoch), never of what was drawn before. So a run that was cut off, by Ctrl-C or by a lost machine, goes on from the
start of the epoch it was in and ends with the weights of a run that was not, bit by bit on the CPU, with any number of
worker processes.
"""

from __future__ import annotations

import csv
import logging
import math
import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

from captum_softcam.softcam.task import SoftCamTask

__all__ = ["TrainingResult", "is_main_process", "train_classifier"]


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind.

    Args:
        score (float): the best validation score.
        epoch (int): the epoch that it was reached in, counted from 0.
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
    ``val_score``, and ``checkpoints/last.ckpt`` with everything at the start of the epoch that runs; it is there before the
    first step. After Ctrl-C, SIGTERM or a crash, ``resume=True`` repeats the epoch that was cut off, and ends with the
    weights that an uninterrupted training has.

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
        patience (int): stop after so many epochs without a better score. Default: never
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
        FileExistsError: if ``folder`` holds a training, and ``resume`` is False.
        FileNotFoundError: if it holds none, and ``resume`` is True.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the message says how to resume.
        ValueError: for an empty set, numbers out of range, settings that Lightning refuses, a checkpoint of another model,
            and what :class:`SoftCamTask` and the data sets refuse.

    Example::

        >>> result = train_classifier(task, train, validation, "run", epochs=20, patience=5)
        >>> result.checkpoint
        PosixPath('run/checkpoints/best.ckpt')
    """
    folder = Path(folder)
    _check_numbers(epochs=epochs, batch_size=batch_size, patience=1 if patience is None else patience)
    _check_sets(train, validation)
    last = _last_checkpoint(task, folder, resume)
    keeper = _Keeper(folder, patience)
    with _quiet(), _deterministic(), _own_random_state():
        trainer = _trainer(
            max_epochs=epochs,
            callbacks=[_StepSeed(seed), keeper, *([TQDMProgressBar()] if show_progress else [])],
            enable_progress_bar=show_progress,
            precision=precision,
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            default_root_dir=folder,
        )
        _fit(trainer, task.train(), _Data(train, validation, batch_size, workers, seed), last)
    return _finish(task, folder)


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


def _last_checkpoint(task: SoftCamTask, folder: Path, resume: bool) -> Path | None:
    """The checkpoint to go on from, if asked for; refuses what cannot be resumed or would be overwritten."""
    last = folder / "checkpoints" / "last.ckpt"
    if resume and not last.is_file():
        raise FileNotFoundError(f"'{last}' does not exist, so there is nothing to resume; start without resume.")
    if not resume and last.exists() and is_main_process():
        raise FileExistsError(f"'{folder}' holds a training already; resume it, choose another folder, or move it away.")
    if not resume:
        return None
    _refuse_unfit(task, last)
    return last


def _refuse_unfit(task: SoftCamTask, checkpoint: Path) -> None:
    """Raise ValueError for a broken checkpoint, and for one of another model."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # a broken file makes torch.load raise almost anything
        raise ValueError(f"'{checkpoint}' cannot be read, so nothing can be resumed from it; train anew.") from error
    given, expected = ({name: tuple(value.shape) for name, value in part.items()} for part in (state, task.state_dict()))
    if given != expected:
        name = min(dict(given.items() ^ expected.items()))
        raise ValueError(
            f"'{checkpoint}' is of another model: '{name}' is {given.get(name, 'missing')} there, and "
            f"{expected.get(name, 'missing')} here; resume with the model it was started with."
        )


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
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"these settings cannot be trained with: {reason}.") from error


def _fit(trainer: Trainer, task: SoftCamTask, data: LightningDataModule, last: Path | None) -> None:
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    except SystemExit as end:  # what Lightning makes of Ctrl-C and SIGTERM
        raise KeyboardInterrupt("the training stopped; resume=True repeats the epoch it was in and goes on") from end
    except torch.OutOfMemoryError as error:
        raise ValueError("the device is out of memory; try a smaller batch size, smaller images, or 16-mixed.") from error


def _finish(task: SoftCamTask, folder: Path) -> TrainingResult:
    """Put the best weights into the model and read the history from where every process can."""
    best = folder / "checkpoints" / "best.ckpt"
    task.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    task.eval()
    history = read_history(folder)
    scores = [row["val_score"] for row in history]
    epoch = scores.index(max(scores))
    return TrainingResult(scores[epoch], epoch, best, history)


def read_history(folder: Path) -> tuple[dict[str, float], ...]:
    """The rows of ``metrics.csv``; none if no epoch has ended yet."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        return tuple({name: float(value) for name, value in row.items()} for row in csv.DictReader(file))


class _Keeper(Checkpoint):
    """Writes the folder: history, best and last checkpoint; stops when patience ends. Its state is in the checkpoint."""

    def __init__(self, folder: Path, patience: int | None) -> None:
        self.folder = folder
        self.patience = patience
        self.rows: list[dict[str, float]] = []
        self.finished = False
        self.lr = math.nan

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.finished = state_dict["rows"], state_dict["finished"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 (Lightning's signature)
        """Begin the epoch anew: Lightning takes every checkpoint for one from the middle or the end of an epoch."""
        trainer.fit_loop.restarting = False
        trainer.should_stop = self.finished

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Save at a moment when nothing of an epoch is under way: schedules have moved on, no batch was drawn."""
        self.lr = float(trainer.optimizers[0].param_groups[0]["lr"])
        self._save(trainer, "last.ckpt")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        row = {"epoch": float(trainer.current_epoch), "lr": self.lr}
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        before = max((earlier["val_score"] for earlier in self.rows), default=-math.inf)
        self.rows.append(row)
        if row["val_score"] > before:
            self._save(trainer, "best.ckpt", weights_only=True)
        if trainer.is_global_zero:
            _write_rows(self.rows, self.folder / "metrics.csv")
        if self.patience is not None and len(self.rows) - 1 - self._best() >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self.finished = True
        self._save(trainer, "last.ckpt")

    def _best(self) -> int:
        scores = [row["val_score"] for row in self.rows]
        return scores.index(max(scores))

    def _save(self, trainer: Trainer, name: str, weights_only: bool = False) -> None:
        trainer.save_checkpoint(self.folder / "checkpoints" / name, weights_only=weights_only)


def _write_rows(rows: list[dict[str, float]], path: Path) -> None:
    """Write all rows beside the file, then put them in its place: a reader never meets half a table."""
    draft = path.with_suffix(".csv.part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)
    draft.replace(path)


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
