"""Find the logits (N, K) in the output of a network: a tensor, or an entry of a dict, tuple or object."""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_softcam._names import listed, quoted, reason
from captum_softcam._scores import described, entries
from captum_softcam.softcam.checks import first_line
from captum_softcam.softcam.model import input_channels

__all__ = ["LogitsOf", "logits_of", "probe"]

_PLACE = re.compile(r"\.(?P<name>[A-Za-z]\w*)|\[(?P<number>\d{1,3})\]|\['(?P<key>[^'\\]{1,80})'\]")


class LogitsOf(nn.Module):
    """A network whose output is a dict, tuple or object, reduced to the entry that holds the logits (N, K).

    Args:
        model (torch.nn.Module): the network.
        outputs (str): the entry, such as ``['logits']``, ``[0]`` or ``.logits``.

    Raises:
        ValueError: if ``outputs`` does not name an entry.
    """

    def __init__(self, model: nn.Module, outputs: str) -> None:
        super().__init__()
        match = _PLACE.fullmatch(outputs)
        if match is None:
            raise ValueError(f"outputs {quoted(outputs)} does not name an entry; expected ['logits'], [0] or .logits.")
        self.model = model
        self.training = model.training  # a new module is in train mode
        self.outputs = outputs
        self._name = match["name"]
        self._key: Any = int(match["number"]) if match["number"] else match["key"]

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, K) of images (N, C, H, W)."""
        output = self.model(images)
        return cast(Tensor, getattr(output, self._name) if self._name else output[self._key])


def logits_of(model: nn.Module, outputs: str) -> nn.Module:
    """Return a network that computes logits (N, K): the model itself, or its entry ``outputs``."""
    return LogitsOf(model, outputs) if outputs and not isinstance(model, LogitsOf) else model


@torch.no_grad()
def probe(model: nn.Module, image_size: int, what: str) -> tuple[str, Tensor, Tensor]:
    """Run a network on two images of noise, and find its logits.

    Cost: one forward pass of two images.

    Args:
        model (torch.nn.Module): in eval mode.
        image_size (int): side of the images.
        what (str): description of the network, for messages.

    Returns:
        tuple of str and two Tensor: the entry of the output that holds the logits ("" if it is the logits), the images, and
        the logits (2, K).

    Raises:
        ValueError: if the network does not run on such images, or if its output has no logits (N, K) or several.
    """
    noise = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    value = next((each for each in model.parameters() if each.is_floating_point()), noise)
    images = noise.to(value)
    try:
        output = model(images)
    except Exception as error:  # networks of users raise almost anything
        raise ValueError(_refusal(model, image_size, what, error)) from error
    place = "" if _is_table(output) else _place(output, what)
    found = LogitsOf(nn.Identity(), place)(output) if place else output
    return place, images, found


def _is_table(entry: Any) -> bool:
    return isinstance(entry, Tensor) and entry.dim() == 2 and len(entry) == 2 and entry.is_floating_point()


def _place(output: Any, what: str) -> str:
    """Return the only entry of an output that is a table (2, K), or the one called logits."""
    found = [place for place, entry in entries(output).items() if _is_table(entry)]
    called = [place for place in found if place in ("['logits']", ".logits")]
    if len(called or found) == 1:
        return (called or found)[0]
    if found:
        raise ValueError(
            f"{what} returns several tables (N, K): {listed(found)}; wrap it in a torch.nn.Module whose forward returns "
            f"one, such as self.model(images){found[0]}."
        )
    raise ValueError(
        f"{what} gives {described(output)} for 2 images; expected logits (N, K), or a dict, tuple or object with one such "
        f"entry. Wrap it in a torch.nn.Module whose forward returns {_reshaping(output)}."
    )


def _reshaping(output: Any) -> str:
    if isinstance(output, Tensor) and output.shape == (2,):
        return "self.model(images)[:, None]"
    if isinstance(output, Tensor) and output.dim() > 2:
        return "one number for each image and class, such as self.model(images).flatten(2).mean(2)"
    return "one number for each image and class"


def _refusal(model: nn.Module, image_size: int, what: str, error: Exception) -> str:
    channels = input_channels(model)
    words = f"{what} does not run on pictures of {image_size} x {image_size} pixels ({reason(first_line(error))})"
    first = next((module for module in model.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))), None)
    if isinstance(first, (nn.Conv1d, nn.Conv3d)):
        return f"{words}: its first layer is a {type(first).__name__}; compare it from Python, by compare_methods."
    if channels not in (None, 3):
        return (
            f"{words}: it reads {channels} channel{'s' * (channels != 1)}, and pictures have 3; wrap it in a "
            "torch.nn.Module whose forward makes its input of them, such as self.model(images.mean(1, keepdim=True))."
        )
    return f"{words}; use the image_size (--size) that it was built for."
