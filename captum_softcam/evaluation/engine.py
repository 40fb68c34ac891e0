"""Engines, which execute the batches of a comparison: in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from captum_softcam._names import reason
from captum_softcam.evaluation.batch import BatchScorer, Progress
from captum_softcam.evaluation.reader import SampleReader
from captum_softcam.evaluation.result import BatchResult

__all__ = ["Engine", "LocalEngine", "RayEngine"]

Batches = Sequence[Sequence[int]]

_PATIENCE = 2.0  # seconds between two checks of whether the cluster is still there


class Engine(Protocol):
    """Executes batches, each exactly once, in any order."""

    def run(self, scorer: BatchScorer, samples: SampleReader, batches: Batches, progress: Progress) -> Iterator[BatchResult]:
        """Score all batches.

        Args:
            scorer (BatchScorer): scores one batch.
            samples (SampleReader): all samples of the comparison, by index; in place of one that cannot be read, its error.
            batches (sequence of sequence of int): the indices of the samples of each batch.
            progress (callable): called with a description and the amount of work in samples.

        Yields:
            BatchResult: the result of a batch, as soon as it is available.
        """
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Executes one batch after the other in this process, on the device of the model.

    Args:
        workers (int): number of processes that read samples ahead; 0 reads them in this process. Default: 0
    """

    workers: int = 0

    def run(self, scorer: BatchScorer, samples: SampleReader, batches: Batches, progress: Progress) -> Iterator[BatchResult]:
        """Score all batches, in their order.

        Args:
            scorer (BatchScorer): scores one batch.
            samples (SampleReader): all samples of the comparison, by index; in place of one that cannot be read, its error.
            batches (sequence of sequence of int): the indices of the samples of each batch.
            progress (callable): called after every map and every metric of every batch.

        Yields:
            BatchResult: the result of a batch.

        Raises:
            ValueError: as ``BatchScorer.score`` does.
        """
        loader: Any = DataLoader(
            samples,  # type: ignore[arg-type]  # any object with a length and samples by index will do
            batch_sampler=batches,  # type: ignore[arg-type]  # any sequence of lists will do
            # PyTorch's default raises TypeError for a dataclass.
            collate_fn=list,
            num_workers=self.workers,
            generator=torch.Generator(),  # else it draws from the user's own
        )
        for indices, batch in zip(batches, loader, strict=True):
            yield scorer.score(indices, batch, progress)


@dataclass(frozen=True)
class RayEngine:
    """Executes batches on the workers of a Ray cluster, again if their worker dies (extra ``ray``).

    Every worker has a copy of the model and reads its samples itself, so all machines need access to the files.

    Args:
        address (str): address of the cluster, as for ``ray.init``. Default: None, starts a cluster on this machine, or joins
            the one that the environment names
        workers (int): number of workers. Default: as many as the cluster has room for
        cpus (float): CPUs per worker; PyTorch uses as many threads. Default: 1
        gpus (float): GPUs per worker; above 0 the model is moved to the worker's GPU. Default: 0
        retries (int): how often a worker may die before the comparison ends. Default: 3
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0
    retries: int = 3

    def run(self, scorer: BatchScorer, samples: SampleReader, batches: Batches, progress: Progress) -> Iterator[BatchResult]:
        """Score all batches, in the order in which they are finished.

        Args:
            scorer (BatchScorer): scores one batch; pickled for the workers, as the samples are.
            samples (SampleReader): all samples of the comparison, by index; in place of one that cannot be read, its error.
            batches (sequence of sequence of int): the indices of the samples of each batch.
            progress (callable): called after every batch.

        Yields:
            BatchResult: the result of a batch.

        Raises:
            ValueError: as ``BatchScorer.score`` does.
            ImportError: if Ray is not installed.
            ChildProcessError: if a worker cannot be started, or dies more than ``retries`` times, or the cluster is lost.
        """
        ray = _import_ray()
        started = not ray.is_initialized()
        if started:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        try:
            # Both limits, because Ray restarts a worker without repeating the task that it was running, unless told to.
            worker = ray.remote(
                num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=self.retries, max_task_retries=self.retries
            )(_Worker)
            # Stored in the cluster once: as an argument, the model would be pickled for every worker.
            shared = ray.put((scorer, samples))
            pool = ray.util.ActorPool([worker.remote(shared, self.gpus > 0) for _ in range(self._count(ray, len(batches)))])
            for indices in batches:
                pool.submit(lambda actor, indices: actor.score.remote(indices), indices)
            for result in _results(ray, pool):
                progress("on the cluster", len(result.indices) + len(result.unreadable))
                yield result
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # the error itself, as a local run raises it
        except ray.exceptions.ActorDiedError as error:
            raise ChildProcessError(self._describe_death(str(error))) from error
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise ChildProcessError(
                f"the Ray cluster was lost ({type(error).__name__}: {reason(error)}); a comparison with a folder can be "
                "resumed, on a new cluster or without one."
            ) from error
        finally:
            if started:
                ray.shutdown()

    def _describe_death(self, error: str) -> str:
        """Return the message for a worker that has died, from Ray's own."""
        if "creation task" in error:
            return f"a worker could not be started: {error.strip().splitlines()[-1]}"
        return (
            f"a worker died more than {self.retries} times in a row; is there too little memory for its samples? A "
            f"comparison with a folder can be resumed. Ray says: {error.splitlines()[0]}"
        )

    def _count(self, ray: Any, batches: int) -> int:
        if self.workers is not None:
            return min(self.workers, batches)
        room = ray.cluster_resources()
        fits = [room.get(kind, 0) / each for kind, each in (("CPU", self.cpus), ("GPU", self.gpus)) if each]
        return max(1, min(batches, *map(int, fits)))


def _results(ray: Any, pool: Any) -> Iterator[BatchResult]:
    """Yield results as soon as they are available; raise ConnectionError if this machine has left the cluster."""
    while pool.has_next():
        # Checked here, because Ray ends this process without an error message when it has missed its own daemon on this
        # machine (the raylet) for a while.
        if _daemon_has_ended(ray):
            raise ConnectionError("Ray's daemon on this machine has ended")
        with suppress(TimeoutError):
            yield pool.get_next_unordered(timeout=_PATIENCE)


def _daemon_has_ended(ray: Any) -> bool:
    """Return whether the raylet started by ``ray.init`` has ended."""
    # Ray 2 has no public function for this; without the private attributes the check is skipped.
    node: Any = getattr(getattr(ray._private, "worker", None), "_global_node", None)
    dead = node.dead_processes() if hasattr(node, "dead_processes") else []
    return any(str(kind) == "raylet" for kind, _ in dead)


class _Worker:
    """A process of the cluster with its copy of the model."""

    def __init__(self, shared: tuple[BatchScorer, SampleReader], on_gpu: bool) -> None:
        scorer, self.samples = shared
        self.scorer = replace(scorer, model=scorer.model.to("cuda")) if on_gpu else scorer

    def score(self, indices: Sequence[int]) -> BatchResult:
        return self.scorer.score(indices, [self.samples[index] for index in indices])


def _import_ray() -> Any:
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise ImportError(f"{reason(error)}. The Ray engine needs the extra: pip install 'captum-softcam[ray]'.") from error
    return ray
