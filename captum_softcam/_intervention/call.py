"""A model together with its arguments, and the same for copies of one example.

The only module that imports private helpers of Captum; each import gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from captum._utils.common import (
    _format_additional_forward_args,  # None, one value or a tuple -> None or a tuple, by Captum's rules
    _format_tensor_into_tuples,  # a tensor or a tuple of tensors -> a tuple
    _run_forward,  # calls the model as Captum's own methods do, so that ours accept the same models
)
from torch import Tensor, fx

from captum_softcam._intervention.view import unwrap
from captum_softcam._names import quoted

__all__ = ["Call", "chunk_size", "map_tensors"]


@dataclass(frozen=True)
class Call:
    """The call ``model(*inputs, *args)`` for a batch.

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
        """Build a call from the arguments of ``attribute``.

        Args:
            forward_func (callable): the model, or a function around it.
            inputs (Tensor or tuple of Tensor): examples first.
            additional_forward_args (any): None, one value or a tuple.

        Raises:
            TypeError: for a model without Python modules: traced, scripted or exported.
            RuntimeError: where there are no values to work on: under ``torch.compile`` or ``vmap``, or on the meta device.
        """
        args = _format_additional_forward_args(additional_forward_args)
        call = cls(unwrap(forward_func), _format_tensor_into_tuples(inputs), args)
        _refuse_without_modules(call.model)
        _refuse_without_values(call.inputs)
        return call

    @property
    def count(self) -> int:
        """Number of examples."""
        return len(self.inputs[0])

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Inputs and further arguments."""
        return (*self.inputs, *(self.args or ()))

    def run(self) -> Any:
        """Run the model; a single number for a single example becomes one row."""
        scores = _run_forward(self.model, self.inputs, None, self.args)
        return scores[None] if isinstance(scores, Tensor) and not scores.dim() and self.count == 1 else scores

    def copies(self, row: int, number: int, *, own: bool = False) -> Call:
        """Return the call with copies of one example, which share its memory unless ``own`` is True.

        A single copy always has its own memory: a model that writes into its input must not write into the user's tensor.
        """
        copies = self._changed(_repeat(row, number))
        return copies.cloned() if own or number == 1 else copies

    def cloned(self) -> Call:
        """Return the call with memory of its own."""
        return self._changed(torch.clone)

    def with_one_more(self) -> Call:
        """Return the call with a copy of the first example behind the batch."""
        return self._changed(lambda value: torch.cat((value, value[:1])))

    def with_one_blank(self) -> Call:
        """Return the call with one example of zeros, for the shapes of a map where there are no examples."""
        return self._changed(lambda value: value.new_zeros(1, *value.shape[1:]))

    def rows(self, values: tuple[Any, ...], row: int, number: int) -> tuple[Any, ...]:
        """Return values in which each tensor with one row per example is replaced by copies of one row."""
        return tuple(self._belonging(_repeat(row, number), values))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Call:
        return replace(self, inputs=self._belonging(change, self.inputs), args=self._belonging(change, self.args))

    def _belonging(self, change: Callable[[Tensor], Tensor], values: Any) -> Any:
        """Return the values with every tensor changed that has one row per example."""
        count = self.count
        return map_tensors(lambda value: change(value) if value.dim() and len(value) == count else value, values)


def _repeat(row: int, number: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[row : row + 1].expand(number, *value.shape[1:])


def map_tensors(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Return an output, however nested, with every tensor changed.

    Unlike ``torch.utils._pytree.tree_map``, it looks into subclasses of ``dict`` that are not registered there.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)((key, map_tensors(change, part)) for key, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(change, part) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(change, part) for part in value)
    return value


def _refuse_without_modules(model: object) -> None:
    kind = ""
    if isinstance(model, torch.jit.ScriptModule):
        kind = "TorchScript"
    # torch.export returns graphs of aten operations, in which no module is left
    elif isinstance(model, fx.GraphModule) and any("aten" in str(node.target) for node in model.graph.nodes):
        kind = "torch.export's"
    if kind:
        raise TypeError(
            f"the model is {kind}, in which no layer can be watched; pass the nn.Module that it was made from, with a layer "
            "of that module."
        )


def _refuse_without_values(inputs: tuple[Any, ...]) -> None:
    where = ""
    if torch.compiler.is_compiling() or _is_dynamo_at_work():
        where = "inside torch.compile"
    elif any(isinstance(value, Tensor) and value.is_meta for value in inputs):
        where = "on the meta device"
    elif any(isinstance(value, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(value) for value in inputs):
        where = "inside torch.func.vmap or another transform of torch.func"
    if where:
        raise RuntimeError(f"attribute needs the values of its inputs, and there are none {where}; call it outside.")


def _is_dynamo_at_work() -> bool:
    """Return whether this thread is within torch.compile, though outside of what it could trace."""
    # torch._dynamo itself must not be imported for the question: that takes two seconds.
    callback = getattr(torch._C._dynamo.eval_frame, "get_eval_frame_callback", lambda: None)()
    return callback is not None and callback is not False


def chunk_size(perturbations_per_eval: int | None, example: Tensor) -> int:
    """Return how many copies of an example to run at a time.

    Args:
        perturbations_per_eval (int or None): as asked for; None for as many copies as hold 32 MiB.
        example (Tensor): (1, ...), one copy.

    Raises:
        ValueError: if less than 1 is asked for.
    """
    if perturbations_per_eval is None:
        return max(1, 2**25 // (example.numel() * example.element_size()))
    if perturbations_per_eval < 1:
        raise ValueError(f"perturbations_per_eval must be at least 1; got {quoted(perturbations_per_eval)}.")
    return perturbations_per_eval
