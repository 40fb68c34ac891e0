"""A function around a network, such as ``lambda x: model(x)["logits"]``, as a module that can be traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from captum_softcam._intervention.view import View, duplicate, unwrap
from captum_softcam._names import quoted

__all__ = ["Function", "as_module"]


class Function(nn.Module):
    """A function with copies of the modules that it calls.

    Args:
        source (callable): the function.

    Raises:
        TypeError: if it leads to no module.
    """

    def __init__(self, source: Callable[..., Any]) -> None:
        super().__init__()
        self.source = source
        copies = _Copies(source)
        if not copies.found:
            raise TypeError(
                f"convert_to_softcam needs a torch.nn.Module, or a function that calls one; got {quoted(source)}."
            )
        self.function = copies.model
        for number, module in enumerate(copies.found):
            self.add_module("model" if len(copies.found) == 1 else f"model_{number}", module)
        self.training = all(module.training for module in copies.found)

    def forward(self, images: Any) -> Any:
        """Call the function with the copies."""
        return self.function(images)

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        # copy.deepcopy would keep the function, which calls the modules of this copy.
        return Function(self.function)


class _Copies(View):
    """A view of a function with copies instead of stand-ins."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.found: list[nn.Module] = []
        for globally in (False, True):
            self._globally = globally
            self._seen: dict[int, Any] = {}
            self._kept: list[Any] = []
            self.model = self._view(function, 0)
            if self.found:
                break

    def _module(self, module: nn.Module) -> nn.Module:
        copy: nn.Module = duplicate(unwrap(module))
        self._kept += [module, copy]
        self._seen[id(module)] = self._seen[id(copy)] = copy
        self.found.append(copy)
        return copy


def as_module(model: Any) -> nn.Module:
    """Return a model as a module: itself, or its function with copies of the modules that it calls.

    Raises:
        TypeError: if it is no module and no function that leads to one.
    """
    model = unwrap(model)
    if isinstance(model, nn.Module):
        return model
    if not callable(model) or isinstance(model, type):
        raise TypeError(_no_network(model))
    return Function(model)


def _no_network(given: object) -> str:
    return f"convert_to_softcam needs a torch.nn.Module, or a function that calls one; got {quoted(given)}."
