"""A network of one logit *s* as one of two classes: class 1 has the logit s, class 0 its negative."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from captum_softcam._scores import Scores, class_logits

__all__ = ["BothClasses", "with_both_classes"]


class BothClasses(nn.Module):
    """A model with one logit that returns those of both classes, -s and s.

    Attributes and layers of the model are found here by their own names, so that methods explain it like the model.

    Args:
        model (torch.nn.Module): (N, C, ...) -> (N, 1).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.whole = model
        self.training = False  # the mode of the model itself is that of its modules

    def forward(self, *inputs: Any, **more: Any) -> Tensor:
        """Run the model, and return the logits of both classes, (N, 2)."""
        return class_logits(self.whole(*inputs, **more), "sigmoid")

    def named_modules(self, *arguments: Any, **more: Any) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules of the model by their names there."""
        named: Iterator[tuple[str, nn.Module]] = self.whole.named_modules(*arguments, **more)
        return named

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Without the model itself, as in a copy that is being built, every name would lead back here.
            if name == "whole":
                raise
            return getattr(self.whole, name)


def with_both_classes(model: nn.Module, outputs: Any, scores: Scores) -> nn.Module:
    """Return the model, or one of both classes if its outputs are the logits of a sigmoid (N, 1)."""
    one_logit = scores == "sigmoid" and isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] == 1
    return BothClasses(model) if one_logit and not isinstance(model, BothClasses) else model
