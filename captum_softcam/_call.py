"""A model together with its arguments, and the same for copies of one example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_softcam._captum import format_additional_forward_args, format_tensor_into_tuples, run_forward
from captum_softcam._tail import unwrap

__all__ = ["Call", "chunk_size"]


@dataclass(frozen=True)
class Call:
    """``model(*inputs, *args)`` for a batch.

    Args:
        model (callable): the model, or a function around it.
        inputs (tuple of Tensor): examples first.
        args (tuple or None): further arguments; tensors with one row per example belong to the examples.
    """

    model: Callable[..., Any]
    inputs: tuple[Any, ...]
    args: tuple[Any, ...] | None

    @classmethod
    def of(cls, forward_func: Callable[..., Any], inputs: Any, additional_forward_args: Any) -> Call:
        """From the arguments of ``attribute``, in Captum's forms."""
        args = format_additional_forward_args(additional_forward_args)
        return cls(unwrap(forward_func), format_tensor_into_tuples(inputs), args)

    @property
    def count(self) -> int:
        """Number of examples."""
        return len(self.inputs[0])

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Inputs and further arguments."""
        return (*self.inputs, *(self.args or ()))

    def run(self) -> Any:
        """The scores."""
        return run_forward(self.model, self.inputs, None, self.args)

    def copies(self, row: int, number: int) -> Call:
        """``number`` copies of one example, seen without copying memory."""
        return Call(self.model, self.rows(self.inputs, row, number), self.args and self.rows(self.args, row, number))

    def rows(self, values: tuple[Any, ...], row: int, number: int) -> tuple[Any, ...]:
        """Each tensor with one row per example as ``number`` times the one row; all else as it is."""
        return tuple(
            value[row : row + 1].expand(number, *value.shape[1:])
            if isinstance(value, Tensor) and value.dim() and len(value) == self.count
            else value
            for value in values
        )


def chunk_size(perturbations_per_eval: int | None, example: Tensor) -> int:
    """How many copies of an example (1, ...) to run at a time: what is asked for, or as many as hold 32 MiB.

    Raises:
        ValueError: if less than 1 is asked for.
    """
    if perturbations_per_eval is None:
        return max(1, 2**25 // (example.numel() * example.element_size()))
    if perturbations_per_eval < 1:
        raise ValueError(f"perturbations_per_eval must be at least 1; got {perturbations_per_eval}.")
    return perturbations_per_eval
