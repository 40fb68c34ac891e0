"""Measure the cost of a block of code: forwards, backwards, seconds and memory."""

from __future__ import annotations

import time
import weakref
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from captum_softcam._intervention.view import runs_whole
from captum_softcam._scores import score_table

__all__ = ["CostMeter", "device_of"]


class CostMeter:
    """Context manager that measures the cost of its block.

    A **forward** is one image that passes through the whole model. Recipro-CAM runs the layers behind its layer once per
    position; these copies do not count, nor do runs in which recorded values replace the first layers. Their seconds count.
    A **backward** is one image for whose scores a gradient is computed, even if it stops at a layer, as in Grad-CAM.

    The peak memory is the largest size of all tensors at once, minus that at the start. On a CUDA device it is read from the
    allocator at no cost. On the CPU storages are followed through all operations, which is slow and misses temporaries
    within an operation; measure seconds in another run.

    Args:
        model (torch.nn.Module): the model; forwards of copies made within the block are counted, too.
        memory (bool): measure the peak memory, on CPU and CUDA devices. Default: False

    Attributes:
        forwards (int): images that passed through the model.
        backwards (int): images for whose scores a gradient was computed.
        seconds (float): wall time, including the work queued on the device.
        peak_bytes (int): peak memory; None if not measured.

    Raises:
        ValueError: within the block, if the model does not return a tensor with a dimension for the images.

    Example::

        >>> with CostMeter(model) as meter:
        ...     maps = LayerExplainFunc("grad_cam", layer="layer4").explain(model, images, targets)
        >>> meter.forwards, meter.backwards
        (2, 2)
    """

    def __init__(self, model: nn.Module, memory: bool = False) -> None:
        self.model = model
        self.memory = memory
        self.forwards = 0
        self.backwards = 0
        self.seconds = 0.0
        self.peak_bytes: int | None = None
        self._device = device_of(model)

    def __enter__(self) -> CostMeter:
        self._stack = ExitStack()
        self._stack.callback(self.model.register_forward_hook(_counter(self)).remove)
        if self.memory and self._device.type == "cpu":
            self._followed = self._stack.enter_context(_LiveStorages())
        self._synchronise()  # kernels queued before the block must not count, nor those of the block be missed
        if self.memory and self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._allocated = torch.cuda.memory_allocated(self._device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        self._synchronise()
        self.seconds = time.perf_counter() - self._start
        if self.memory and self._device.type == "cpu":
            self.peak_bytes = self._followed.peak
        if self.memory and self._device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self._device) - self._allocated

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type != "cpu":
            getattr(torch, self._device.type).synchronize()


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's parameters; the CPU for a model without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _counter(meter: CostMeter) -> Any:
    """Return the forward hook that counts for a meter."""
    # A closure and not a method: copy.deepcopy of the model would copy the meter of a bound method, and lose its counts.

    def returned(gradient: Tensor) -> None:
        meter.backwards += len(gradient)

    def ran(model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor) or not output.dim():
            score_table(output, len(inputs[0]))
        if runs_whole(model):
            # Copies that join the images on their way make the output longer than the input.
            meter.forwards += min(len(rows) for rows in (*inputs[:1], output))
        if output.requires_grad:
            output.register_hook(returned)

    return ran


class _LiveStorages(TorchDispatchMode):
    """Follows every storage that an operation allocates until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's own
        self.peak = 0
        self._bytes: dict[int, int] = {}
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(storage): storage for storage in _storages((args, kwargs))}  # an output may be a view of an input
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if id(storage) not in given or id(storage) in self._bytes:
                self._follow(storage)
        self.peak = max(self.peak, sum(self._bytes.values()))
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key not in self._alive:
            self._alive[key] = weakref.ref(storage, lambda _: self._forget(key))
        self._bytes[key] = storage.nbytes()  # again, because an operation may have resized it

    def _forget(self, key: int) -> None:
        del self._bytes[key], self._alive[key]


def _storages(values: Any) -> list[torch.UntypedStorage]:
    # torch returns the same object for a storage each time, so that id() and weak references follow it across its views.
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
