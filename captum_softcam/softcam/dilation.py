"""A finer grid with the same weights: strides of the last stages are replaced by dilation.

A convolution without its stride of two computes a map twice as fine. The layers behind it are dilated, so that they read
every other position of that map. At the positions that existed before, each of them computes the same values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from captum_softcam._names import named, quoted, reason
from captum_softcam.softcam.model import CONVOLUTIONS, input_channels, run_on_meta, spatial_dims

__all__ = ["DilatedAvgPool", "set_output_stride"]

_SIDE = 2**14  # of the input on the meta device; the borders that unpadded layers crop must not change the rounded stride
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_PADS = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}
_STRIDED = (*CONVOLUTIONS, *_MAX_POOLS, *_AVERAGE_POOLS)


class DilatedAvgPool(nn.Module):
    """Average pool with dilation, which torch lacks: (N, C, ...) -> (N, C, ...).

    Args:
        pool (torch.nn.Module): the pool whose window, padding and counting of the padding are kept.
        stride (sequence of int): replaces that of the pool.
        dilation (sequence of int): distance of the positions in the window, along each dimension.
    """

    def __init__(self, pool: nn.Module, stride: Sequence[int], dilation: Sequence[int]) -> None:
        super().__init__()
        dims = len(dilation)
        self.stride, self.dilation = tuple(stride), tuple(dilation)
        self.kernel_size, self.padding = tuple(_sides(pool, "kernel_size", dims)), tuple(_sides(pool, "padding", dims))
        self.beyond = tuple(side - 1 if pool.ceil_mode else 0 for side in _sides(pool, "stride", dims))
        self.count_include_pad = bool(pool.count_include_pad)

    def forward(self, features: Tensor) -> Tensor:
        """Average along one dimension after the other."""
        # The counted positions of a window form a box, so that their number is the product of those along each dimension.
        for d in range(len(self.kernel_size)):
            features = self._average(features.movedim(d + 2, -1), d).movedim(-1, d + 2)
        return features

    def _average(self, rows: Tensor, d: int) -> Tensor:
        """Average the last dimension of ``rows`` by the window along dimension ``d``."""
        reach = self.dilation[d] * (self.kernel_size[d] - 1)
        margin = self.padding[d] * self.dilation[d]
        beyond = self.beyond[d] * self.dilation[d]
        # Positions beyond the padding, which ceil_mode reads, are never counted: torch's average pools do the same.
        counted = pad(rows.new_ones(rows.shape[-1:]), (margin, margin), value=float(self.count_include_pad))
        cells, counted = pad(rows, (margin, margin + beyond)), pad(counted, (0, beyond))
        starts = torch.arange(0, cells.shape[-1] - reach, self.stride[d], device=rows.device)
        window = starts + torch.arange(0, reach + 1, self.dilation[d], device=rows.device)[:, None]
        return torch.stack([cells[..., places] for places in window]).sum(0) / counted[window].sum(0)

    def extra_repr(self) -> str:
        """Return the settings for ``print(module)``."""
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"


def set_output_stride(backbone: nn.Module, output_stride: int) -> list[str]:
    """Refine the map of ``backbone``, in place, to one position per ``output_stride`` input pixels.

    Returns:
        list of str: the layers that changed. Empty if the map was as fine already.

    Raises:
        ValueError: if the stride is not a positive number, or cannot be reached, for example because of functional pooling.
    """
    if output_stride < 1:
        raise ValueError(f"output_stride {quoted(output_stride)} is not a positive number of pixels, such as 16 or 8.")
    before, reached = _measure(backbone, "the strides cannot be measured")
    changed = [name for name, strides in reached.items() if _dilate(backbone, name, strides, output_stride)]
    # Measured again instead of computed, to notice functional pooling and branches that now differ in size.
    wanted = [min(stride, output_stride) for stride in before]
    after, _ = _measure(backbone, f"output_stride={output_stride} takes its branches apart")
    if after != wanted:
        raise ValueError(
            f"output_stride={quoted(output_stride)} cannot be reached: the map has strides {after}, where {wanted} were "
            "wanted. The rest comes from calls that are no layers, like a functional pooling, or from a stride it does not "
            "divide."
        )
    return changed


def _measure(backbone: nn.Module, problem: str) -> tuple[list[int], dict[str, list[int]]]:
    """Measure the strides of the map, and those of the input of each convolution and pool, by name."""
    dims, channels = spatial_dims(backbone), input_channels(backbone)
    if dims is None or channels is None:
        raise ValueError("output_stride needs a network with convolutions; this one has none.")
    reached: dict[str, list[int]] = {}
    with ExitStack() as stack:
        for name, module in backbone.named_modules():
            if isinstance(module, _STRIDED):
                stack.callback(module.register_forward_pre_hook(_noting(reached, name, dims)).remove)
        try:
            features = run_on_meta(backbone, (1, channels, *[_SIDE] * dims))
        except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
            raise ValueError(f"{problem}: on an input of {_SIDE} pixels, {reason(error)}") from error
    return _strides(features), reached


def _noting(reached: dict[str, list[int]], name: str, dims: int) -> Callable[..., None]:
    """Return a hook that records the strides of the input of a layer."""

    def note(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].dim() != dims + 2:  # a layer without positions, such as the Conv1d of a channel attention
            return
        if reached.setdefault(name, _strides(args[0])) != _strides(args[0]):
            raise ValueError(f"layer '{named(name)}' is called at strides {reached[name]} and {_strides(args[0])}.")

    return note


def _strides(features: Tensor) -> list[int]:
    return [round(_SIDE / side) for side in features.shape[2:]]


def _dilate(backbone: nn.Module, name: str, reached: list[int], limit: int) -> bool:
    """Limit the stride of a layer whose input has the strides ``reached``, and dilate it by the factor that they lose.

    Returns:
        bool: whether the layer changed.
    """
    module = backbone.get_submodule(name)
    kernel, stride, padding, dilation = (
        _sides(module, part, len(reached)) for part in ("kernel_size", "stride", "padding", "dilation")
    )
    # The map must leave this layer at stride min(r * s, limit), and it arrives at min(r, limit).
    now = [max(1, min(r * s, limit) // min(r, limit)) for r, s in zip(reached, stride, strict=True)]
    # A window of one position reads the same position with any dilation.
    wider = [r // min(r, limit) if k > 1 else 1 for r, k in zip(reached, kernel, strict=True)]
    if now == stride and max(wider) == 1:
        return False
    if getattr(module, "padding_mode", "zeros") != "zeros":
        raise ValueError(
            f"layer '{named(name)}' pads with {quoted(module.padding_mode)}, which output_stride does not support."
        )
    padding = [p * w for p, w in zip(padding, wider, strict=True)]
    dilation = [d * w for d, w in zip(dilation, wider, strict=True)]
    if isinstance(module, _AVERAGE_POOLS):
        if getattr(module, "divisor_override", None):
            raise ValueError(f"layer '{named(name)}' has divisor_override, which output_stride does not support.")
        _replace(backbone, name, DilatedAvgPool(module, now, wider))
        return True
    if isinstance(module, _MAX_POOLS):
        beyond = [w * (s - 1) if module.ceil_mode else 0 for w, s in zip(wider, stride, strict=True)]
        _replace(backbone, name, _max_pool(type(module), kernel, now, padding, dilation, beyond))
        return True
    module.stride = tuple(now)  # type: ignore[assignment]  # of a convolution or pool, which mypy sees as any module
    if max(wider) > 1:
        module.dilation = tuple(dilation)  # type: ignore[assignment]
        # padding="same" is computed from the dilation in every call.
        module.padding = module.padding if isinstance(module.padding, str) else tuple(padding)  # type: ignore[assignment]
    return True


def _max_pool(
    kind: Any, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int], beyond: list[int]
) -> nn.Sequential:
    """Build a dilated max pool that pads in a layer of its own.

    torch limits the padding of a max pool to half its window without dilation. A pool with ``ceil_mode`` reads ``beyond``
    the border, and so does the dilated one.
    """
    margins = [side for p, b in zip(reversed(padding), reversed(beyond), strict=True) for side in (p, p + b)]
    pool = kind(tuple(kernel), tuple(stride), 0, tuple(dilation))
    padding_layer: Any = _PADS[len(kernel)]
    return nn.Sequential(padding_layer(tuple(margins), -math.inf), pool)


def _sides(module: nn.Module, name: str, dims: int) -> list[int]:
    """Return an attribute of a convolution or pool per dimension; 1 if it is missing, 0 for padding by name."""
    value = getattr(module, name, 1)
    if isinstance(value, str):
        return [0] * dims
    return [value] * dims if isinstance(value, int) else list(value)


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
