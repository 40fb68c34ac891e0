"""Where the units of work run: here, one after the other, or on the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch.utils.data import DataLoader

from captum_softcam._names import reason
from captum_softcam.data import Samples
from captum_softcam.evaluation.part import Part
from captum_softcam.evaluation.work import Tick, Work

__all__ = ["Engine", "LocalEngine", "RayEngine"]

Units = Sequence[Sequence[int]]

_PATIENCE = 2.0  # seconds between two looks at whether the cluster is still there


class Engine(Protocol):
    """Whatever runs units of work, each exactly once, in any order."""

    def run(self, work: Work, samples: Samples, units: Units, tick: Tick) -> Iterator[Part]:
        """Score all units.

        Args:
            work (Work): what is to be done with any samples.
            samples (Samples): all samples of the comparison.
            units (sequence of sequence of int): the places of the samples of each unit.
            tick (callable): hears what is done, in words, and the number of samples that it is worth.

        Yields:
            Part: the results of one unit, as soon as they are there.
        """
        ...


@dataclass(frozen=True)
class LocalEngine:
    """One unit after the other in this process, on the device of the model.

    Args:
        workers (int): processes that read samples ahead; 0 reads them here. Default: 0
    """

    workers: int = 0

    def run(self, work: Work, samples: Samples, units: Units, tick: Tick) -> Iterator[Part]:
        """Score all units, in their order.

        Args:
            work (Work): what is to be done with any samples.
            samples (Samples): all samples of the comparison.
            units (sequence of sequence of int): the places of the samples of each unit.
            tick (callable): hears of every map and every metric of every unit.

        Yields:
            Part: the results of one unit.

        Raises:
            ValueError: as :meth:`Work.run` does.
        """
        loader: Any = DataLoader(
            samples,  # type: ignore[arg-type]  # whatever has a length and gives samples by number
            batch_sampler=units,  # type: ignore[arg-type]  # any sequence of lists does
            collate_fn=list,
            num_workers=self.workers,
        )
        for unit, batch in zip(units, loader, strict=True):
            yield work.run(unit, batch, tick)


@dataclass(frozen=True)
class RayEngine:
    """Units on the workers of a Ray cluster, which runs a unit again when its worker dies (extra ``ray``).

    Every worker holds a copy of the model and reads its samples itself, so that files must lie where all machines see them.

    Args:
        address (str): of the cluster, as ``ray.init`` takes it; None starts one on this machine, or joins the one that the
            environment names. Default: None
        workers (int): Default: as many as the cluster has room for
        cpus (float): per worker; PyTorch takes as many threads. Default: 1
        gpus (float): per worker; above 0 the model is moved to the worker's GPU. Default: 0
        retries (int): how often a worker may die before the comparison gives up. Default: 3
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0
    retries: int = 3

    def run(self, work: Work, samples: Samples, units: Units, tick: Tick) -> Iterator[Part]:
        """Score all units, whichever is done first.

        Args:
            work (Work): what is to be done with any samples; pickled for the workers, as the samples are.
            samples (Samples): all samples of the comparison.
            units (sequence of sequence of int): the places of the samples of each unit.
            tick (callable): hears of every unit that is done.

        Yields:
            Part: the results of one unit.

        Raises:
            ValueError: as :meth:`Work.run` does.
            ImportError: if Ray is not installed.
            ChildProcessError: if a worker cannot be started, or dies more than ``retries`` times, or the cluster is lost.
        """
        ray = _import_ray()
        started = not ray.is_initialized()
        if started:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        try:
            worker = ray.remote(
                num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=self.retries, max_task_retries=self.retries
            )(_Worker)
            held = ray.put((work, samples))
            pool = ray.util.ActorPool([worker.remote(held, self.gpus > 0) for _ in range(self._count(ray, len(units)))])
            for unit in units:
                pool.submit(lambda actor, unit: actor.run.remote(unit), unit)
            for part in _results(ray, pool):
                tick("on the cluster", len(part.indices))
                yield part
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.ActorDiedError as error:
            raise ChildProcessError(self._words(str(error))) from error
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise ChildProcessError(
                f"the Ray cluster was lost ({type(error).__name__}: {reason(error)}); a comparison with a folder can be "
                "resumed, on a new cluster or without one."
            ) from error
        finally:
            if started:
                ray.shutdown()

    def _words(self, error: str) -> str:
        """What happened to a worker that is no more."""
        if "creation task" in error:
            return f"a worker could not be started: {error.strip().splitlines()[-1]}"
        return (
            f"a worker died more than {self.retries} times in a row; is there too little memory for its samples? A "
            f"comparison with a folder can be resumed. Ray says: {error.splitlines()[0]}"
        )

    def _count(self, ray: Any, units: int) -> int:
        if self.workers is not None:
            return min(self.workers, units)
        room = ray.cluster_resources()
        fits = [room.get(kind, 0) / each for kind, each in (("CPU", self.cpus), ("GPU", self.gpus)) if each]
        return max(1, min(units, *map(int, fits)))


def _results(ray: Any, pool: Any) -> Iterator[Part]:
    """What the workers give, as soon as it is there; ConnectionError where this machine left the cluster meanwhile.

    Ray ends the process of its driver without a word when it has missed its own daemon on this machine (the raylet) for a
    while.
    """
    while pool.has_next():
        if _daemon_has_ended(ray):
            raise ConnectionError("Ray's daemon on this machine has ended")
        with suppress(TimeoutError):
            yield pool.get_next_unordered(timeout=_PATIENCE)


def _daemon_has_ended(ray: Any) -> bool:
    """Whether the raylet that ``ray.init`` started has ended; Ray has no public word for it."""
    node: Any = getattr(getattr(ray._private, "worker", None), "_global_node", None)
    dead = node.dead_processes() if hasattr(node, "dead_processes") else []
    return any(str(kind) == "raylet" for kind, _ in dead)


class _Worker:
    """A process of the cluster with its copy of the model."""

    def __init__(self, held: tuple[Work, Samples], on_gpu: bool) -> None:
        work, self.samples = held
        self.work = replace(work, model=work.model.to("cuda")) if on_gpu else work

    def run(self, unit: Sequence[int]) -> Part:
        """The part of one unit."""
        return self.work.run(unit, [self.samples[index] for index in unit])


def _import_ray() -> Any:
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise ImportError(f"{reason(error)}. The Ray engine needs the extra: pip install 'captum-softcam[ray]'.") from error
    return ray
