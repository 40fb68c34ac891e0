"""The layers of a classifier as layers that do at every position what they did once, behind the pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam.softcam.head import Layer
from captum_softcam.softcam.shapes import CONVOLUTIONS

__all__ = ["ChannelNorm", "convolution", "new_classifier", "twin"]

_BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map, at every position: (N, C, ...) -> (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise what stands in dimension 1."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def twin(layer: Layer, dims: int, grid: Sequence[int] = ()) -> nn.Module:
    """A layer behind the pooling, to stand before it: on maps (N, C, ...) with ``dims`` dimensions of positions.

    Args:
        layer (Layer): one that acts on the pooled channels.
        dims (int): 1, 2 or 3.
        grid (sequence of int): positions that a linear layer tells apart; its weights are summed over them. Default: none
    """
    module = layer.module
    if isinstance(module, nn.Linear):
        return convolution(module, dims, grid)
    if isinstance(module, nn.BatchNorm1d) and dims > 1:
        settings = module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        return _like(_BATCH_NORMS[dims](*settings), module)
    if isinstance(module, nn.LayerNorm) and layer.flat:
        shape = list(module.normalized_shape)
        return _like(ChannelNorm(shape, module.eps, module.elementwise_affine, bias=module.bias is not None), module)
    return module


def convolution(linear: nn.Linear, dims: int, grid: Sequence[int] = ()) -> nn.Module:
    """The 1x1 convolution with the weights of ``linear``.

    For a layer that reads a flattened ``grid`` the weights are summed over its positions: a position answers as the layer
    would if the same features stood everywhere.
    """
    outputs, inputs = linear.out_features, linear.in_features // math.prod(grid)
    weight = linear.weight.view(outputs, inputs, -1).sum(2)
    conv = CONVOLUTIONS[dims - 1](inputs, outputs, 1, bias=linear.bias is not None).to(weight)
    with torch.no_grad():
        conv.weight.copy_(weight.view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.copy_(linear.bias)
    for name, parameter in conv.named_parameters():
        parameter.requires_grad_(getattr(linear, name).requires_grad)
    return conv.train(linear.training)


def new_classifier(last: nn.Module, num_classes: int) -> nn.Module:
    """A fresh last layer, linear or a convolution, for other classes, with torch's own initial weights."""
    bias = last.bias is not None
    if isinstance(last, nn.Linear):
        fresh: nn.Module = nn.Linear(last.in_features, num_classes, bias)
    else:
        kind: Any = type(last)
        fresh = kind(last.in_channels, num_classes, last.kernel_size, last.stride, last.padding, bias=bias)
    return fresh.to(next(last.parameters())).train(last.training)


def _like(fresh: nn.Module, module: nn.Module) -> nn.Module:
    """``fresh`` with the parameters, buffers, dtype, device and mode of ``module``."""
    state = module.state_dict()
    fresh = fresh.to(next((value for value in state.values() if value.is_floating_point()), torch.zeros(())))
    fresh.load_state_dict(state)
    for name, parameter in fresh.named_parameters():
        parameter.requires_grad_(getattr(module, name).requires_grad)
    return fresh.train(module.training)
