"""How a layer's output is a map: channels first, channels last, or a sequence of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_softcam._tail import Trace

__all__ = ["FeatureLayout", "find_layout"]


@dataclass(frozen=True)
class FeatureLayout:
    """How the output of a layer is a map (N, C, h, w).

    It is found by itself for CNNs, for torchvision's Swin and vision transformers, and for models that tell their
    ``num_prefix_tokens`` and ``patch_embed.grid_size`` as timm's do. Declare it for other transformers.

    Args:
        channels_last (bool): (N, h, w, C) or tokens (N, L, C), not (N, C, h, w). Default: False
        prefix_tokens (int): tokens before those of the grid, such as the class token. Default: 0
        grid (tuple of int): (h, w) of the tokens, in reading order; needed for tokens only. Default: None

    Example::

        >>> tokens = FeatureLayout(channels_last=True, prefix_tokens=1, grid=(14, 14))
        >>> recipro_cam = LayerReciproCam(model, model.blocks[-1].norm1, layout=tokens)
        >>> recipro_cam.attribute(images, target=3).shape
        torch.Size([2, 1, 14, 14])
    """

    channels_last: bool = False
    prefix_tokens: int = 0
    grid: tuple[int, ...] | None = None

    def to_maps(self, features: Tensor) -> Tensor:
        """What a layer gives as a map, without the prefix tokens.

        Args:
            features (Tensor): in this layout: (N, C, h, w), (N, h, w, C) or tokens (N, L, C).

        Returns:
            Tensor: (N, C, h, w); nothing is copied.
        """
        if not self.channels_last:
            return features
        maps = features[:, self.prefix_tokens :].movedim(-1, 1)
        return maps if self.grid is None else maps.unflatten(2, self.grid)

    def to_features(self, maps: Tensor, like: Tensor) -> Tensor:
        """The way back: maps in the layout of the layer, with prefix tokens before them.

        Args:
            maps (Tensor): P of them, (P, C, h, w).
            like (Tensor): features of one example, (1, ...), whose prefix tokens all P get.

        Returns:
            Tensor: (P, C, h, w), (P, h, w, C) or (P, L, C).
        """
        if not self.channels_last:
            return maps
        features = (maps if self.grid is None else maps.flatten(2)).movedim(1, -1)
        prefix = like[:, : self.prefix_tokens].expand(len(maps), *[-1] * (like.dim() - 1))
        return torch.cat((prefix, features), 1) if self.prefix_tokens else features

    def fits(self, features: object) -> bool:
        """Whether ``features``, whatever they are, are a map of more than one position in this layout."""
        if not isinstance(features, Tensor) or features.dim() < 3:
            return False
        if self.grid is not None:
            tokens = self.prefix_tokens + math.prod(self.grid)
            return self.channels_last and features.dim() == 3 and features.shape[1] == tokens and math.prod(self.grid) > 1
        cells = features.shape[1:-1] if self.channels_last else features.shape[2:]
        return cells.numel() > 1


def find_layout(features: object, trace: Trace) -> FeatureLayout:
    """The layout of a layer's features, by the number of channels that the last module before them gives.

    Raises:
        ValueError: for tokens whose grid is not known.
    """
    if not isinstance(features, Tensor) or features.dim() < 3 or not _last_are_channels(features, trace.leaf):
        return FeatureLayout()
    if features.dim() > 3:
        return FeatureLayout(channels_last=True)
    for container in trace.containers:
        layout = _token_layout(container)
        if layout is not None and layout.fits(features):
            return layout
    raise ValueError(
        f"the layer gives tokens {tuple(features.shape)}, of which the grid is not known; declare it, as in "
        f"layout={_guess(features.shape[1])}."
    )


def _last_are_channels(features: Tensor, leaf: nn.Module | None) -> bool:
    """Whether the last dimension is that of the channels; if the sizes do not tell, the kind of the module does."""
    channels, last = _channels(leaf)
    if (features.shape[1] == channels) != (features.shape[-1] == channels):
        return features.shape[-1] == channels
    return last and features.shape[-1] == channels


def _channels(leaf: nn.Module | None) -> tuple[int | None, bool]:
    """The number of channels that a module gives, and whether they are the last dimension of its output."""
    if isinstance(leaf, nn.LayerNorm):
        return leaf.normalized_shape[-1], True
    for name, last in (("out_features", True), ("embed_dim", True), ("out_channels", False), ("num_features", False)):
        if isinstance(getattr(leaf, name, None), int):
            return getattr(leaf, name), last
    return None, False


def _token_layout(model: nn.Module) -> FeatureLayout | None:
    """The layout of the tokens of a model that tells it: torchvision's vision transformer, and timm's transformers."""
    if isinstance(getattr(model, "class_token", None), Tensor) and hasattr(model, "patch_size"):
        side = int(model.image_size) // int(model.patch_size)  # type: ignore[arg-type]  # torchvision's: both are int
        return FeatureLayout(True, 1, (side, side))
    prefix, grid = getattr(model, "num_prefix_tokens", None), getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if isinstance(prefix, int) and isinstance(grid, tuple):
        return FeatureLayout(True, prefix, grid)
    return None


def _guess(tokens: int) -> FeatureLayout:
    """A layout for so many tokens, for an error message: a square grid behind as few prefix tokens as can be."""
    side = math.isqrt(tokens)
    return FeatureLayout(True, tokens - side * side, (side, side))
