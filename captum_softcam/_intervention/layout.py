"""The layout of a layer's output as a map: channels first, channels last, or a sequence of tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn

from captum_softcam._intervention.dimensions import Dim, Dims, kinds, size_of

__all__ = ["FeatureLayout", "fits_shape", "read_layout", "refuse_other_count", "told_layouts"]


@dataclass(frozen=True)
class FeatureLayout:
    """Layout of the output of a layer as a map (N, C, h, w).

    The methods derive it by following every dimension of every tensor through the model: a convolution reads channels in
    dimension 1, a linear layer in the last one; tokens that were flattened from a grid have its sides, and learned tokens
    that were put before them are prefix tokens. Attributes of a model, such as timm's ``num_prefix_tokens`` and
    ``patch_embed.grid_size``, count where nothing else is known. A layout that is not certain is never guessed: a ValueError
    asks for a declaration.

    Args:
        channels_last (bool): (N, h, w, C) or tokens (N, L, C), not (N, C, h, w) or (N, C, L). Default: False
        prefix_tokens (int): tokens before those of the grid, such as the class token. Default: 0
        grid (tuple of int): (h, w) of the tokens, in reading order, or (d, h, w) of those of a volume. Default: None,
            where each dimension of the grid is one of the output

    Example::

        >>> tokens = FeatureLayout(channels_last=True, prefix_tokens=1, grid=(14, 14))
        >>> recipro_cam = LayerReciproCam(model, model.blocks[-1].norm1, layout=tokens)
        >>> recipro_cam.attribute(images, target=3).shape
        torch.Size([2, 1, 14, 14])
    """

    channels_last: bool = False
    prefix_tokens: int = 0
    grid: tuple[int, ...] | None = None

    @property
    def _tokens(self) -> int:
        """The dimension of the tokens."""
        return 1 if self.channels_last else 2

    def to_maps(self, features: Tensor) -> Tensor:
        """Return the output of a layer as maps, without the prefix tokens.

        Args:
            features (Tensor): in this layout: (N, C, h, w), (N, h, w, C) or tokens (N, L, C).

        Returns:
            Tensor: (N, C, h, w); nothing is copied.
        """
        maps = features
        if self.prefix_tokens:
            maps = features.narrow(self._tokens, self.prefix_tokens, features.shape[self._tokens] - self.prefix_tokens)
        maps = maps.movedim(-1, 1) if self.channels_last else maps
        return maps if self.grid is None else maps.unflatten(2, self.grid)

    def to_features(self, maps: Tensor, like: Tensor) -> Tensor:
        """Return maps in the layout of the layer, with prefix tokens before them.

        Args:
            maps (Tensor): P of them, (P, C, h, w).
            like (Tensor): features of one example, (1, ...), whose prefix tokens are put before all P maps.

        Returns:
            Tensor: (P, C, h, w), (P, h, w, C) or (P, L, C).
        """
        features = maps if self.grid is None else maps.flatten(2)
        features = features.movedim(1, -1) if self.channels_last else features
        if not self.prefix_tokens:
            return features
        # The prefix tokens of the example itself: only positions of the grid are masked
        prefix = like.narrow(self._tokens, 0, self.prefix_tokens).expand(len(maps), *[-1] * (like.dim() - 1))
        return torch.cat((prefix, features), self._tokens)

    def fits(self, features: object) -> bool:
        """Return whether features are a map of more than one position in this layout.

        Args:
            features (any): anything but a tensor is not a map.

        Returns:
            bool: False also for a map of one position.
        """
        return isinstance(features, Tensor) and fits_shape(self, features.shape)


def fits_shape(layout: FeatureLayout, shape: tuple[int, ...]) -> bool:
    """Return whether features of that shape are a map of more than one position in the layout."""
    if len(shape) < 3:
        return False
    if layout.grid is not None:
        tokens = layout.prefix_tokens + math.prod(layout.grid)
        return len(shape) == 3 and shape[layout._tokens] == tokens and math.prod(layout.grid) > 1
    # A map of one position ranks nothing
    return math.prod(shape[1:-1] if layout.channels_last else shape[2:]) > 1


def read_layout(
    dims: Dims, count: int | None, grids: Sequence[tuple[int, ...]], told: Iterable[FeatureLayout]
) -> FeatureLayout:
    """Return the layout of features whose dimensions are known.

    Args:
        dims (tuple): the dimensions.
        count (int or None): number of examples; None if it is not known.
        grids (sequence of tuple): sides of the grids in the model, one of which tokens of an unknown grid may have.
        told (iterable of FeatureLayout): layouts of tokens, from the attributes of the model.

    Raises:
        ValueError: if a dimension is not known, or if the features are not one map per example.
    """
    shape = tuple(map(size_of, dims))
    _refuse_other_examples(dims, shape, count)
    channel = _channel(dims, shape, grids)
    last = channel == len(dims) - 1
    space = dims[1:channel] + dims[channel + 1 :]
    if len(space) > 1:
        _refuse_other_order(space, shape)
        return FeatureLayout(channels_last=last)
    return _row(space[0], shape, last, grids, [layout for layout in told if fits_shape(layout, shape)])


def _refuse_other_examples(dims: Dims, shape: tuple[int, ...], count: int | None) -> None:
    places = [place for place, dim in enumerate(dims) if any(atom.kind == "n" for atom in dim)]
    other_count = count is not None and shape[0] != count
    if count is not None and other_count and 0 in places:
        refuse_other_count("the layer", shape, count)
    turned = any(atom.turned for atom in dims[0])
    if (places and places != [0]) or turned or kinds(dims[0]) & {"c", "s", "p"} or other_count:
        where = f"dimension {places[0]}" if places and not turned else "no dimension"
        raise ValueError(
            f"the layer gives {shape}, in which {where} is that of the {count} examples; use a layer where dimension 0 is."
        )


def refuse_other_count(layer: str, shape: tuple[int, ...], count: int) -> NoReturn:
    """Raise ValueError for a layer whose output has another number of maps than there are examples."""
    raise ValueError(
        f"{layer} gives {shape}, {shape[0]} maps for {count} examples: they belong to views, windows or frames of the "
        "examples. Explain a layer that gives one map per example, or pass every view as an example of its own."
    )


def _channel(dims: Dims, shape: tuple[int, ...], grids: Sequence[tuple[int, ...]]) -> int:
    """Return the dimension of the channels: the only one that is known as such, or the only one that is not space."""
    known = [place for place, dim in enumerate(dims) if place and kinds(dim) == {"c"}]
    if not known:
        # The only dimension that is not space holds the channels, unless it became unknown on the way
        known = [place for place, dim in enumerate(dims) if place and kinds(dim) != {"s"}]
        if len(known) != 1 or not (shape[known[0]] == 1 or _is_given(dims[known[0]])):
            last = _proposal(shape[1], grids) if len(shape) == 3 else FeatureLayout(channels_last=True)
            raise ValueError(
                f"the layer gives {shape}, and it is not known which dimension is that of the channels; declare it: "
                f"layout=FeatureLayout() if it is dimension 1, layout={last} if it is the last one."
            )
    if len(known) > 1:
        places = " and ".join(map(str, known))
        raise ValueError(
            f"the layer gives {shape}, in which dimensions {places} are channels, such as heads and what each has; use a "
            "layer that gives one dimension of channels."
        )
    if known[0] not in (1, len(dims) - 1):
        raise ValueError(
            f"the layer gives {shape}, in which the channels are dimension {known[0]}; use a layer where they are "
            "dimension 1 or the last one."
        )
    return known[0]


def _is_given(dim: Dim) -> bool:
    """Return whether a dimension of the inputs is unknown only because no function has determined its kind."""
    return len(dim) == 1 and dim[0].kind == "?" and dim[0].given


def _refuse_other_order(space: Dims, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless each dimension of space is one axis of a map, as it was when it was made."""
    atoms = [atom for dim in space for atom in dim]
    # An inner part is the position within a window, and a turned atom has its positions elsewhere
    moved = any(atom.inner or atom.turned or atom.prefix for atom in atoms)
    if moved or any(not dim or sum(atom.size > 1 for atom in dim) > 1 for dim in space) or len(set(atoms)) != len(atoms):
        raise ValueError(_windows(shape))
    if not all(atom.kind == "s" or _is_given((atom,)) for atom in atoms):
        raise ValueError(
            f"the layer gives {shape}, and what its dimensions are is not known; declare it, as in layout=FeatureLayout()."
        )


def _row(
    dim: Dim, shape: tuple[int, ...], last: bool, grids: Sequence[tuple[int, ...]], told: Iterable[FeatureLayout]
) -> FeatureLayout:
    """Return the layout of features whose positions are in one dimension: a signal, a text or tokens."""
    prefix, atoms = (dim[0].prefix, dim[0].row) if len(dim) == 1 and dim[0].prefix else (0, dim)
    # A single channel or example may have joined the row in a reshape; it is not a side of the grid
    atoms = tuple(atom for atom in atoms if atom.size > 1 or atom.kind in "s?")
    sides = tuple(atom.size for atom in atoms)
    known = all((atom.kind == "s" and not atom.lost) or _is_given((atom,)) for atom in atoms)
    if not known or len(set(atoms)) != len(atoms):
        return _told(shape, last, grids, told)
    # Axes in another order than in the inputs are those of a transposed grid
    axes = [atom.axis for atom in atoms if atom.axis is not None]
    if any(atom.inner or atom.turned or atom.prefix for atom in atoms) or axes != sorted(set(axes)):
        raise ValueError(_windows(shape))
    if prefix or len(atoms) > 1:
        return FeatureLayout(last, prefix, sides)
    return next(_believable(told, last, grids), FeatureLayout(channels_last=last))


def _told(
    shape: tuple[int, ...], last: bool, grids: Sequence[tuple[int, ...]], told: Iterable[FeatureLayout]
) -> FeatureLayout:
    """Return the layout of tokens of an unknown grid, from the attributes of the model."""
    for layout in _believable(told, last, grids):
        return layout
    proposal = _proposal(shape[1 if last else 2], grids, last)
    raise ValueError(f"the layer gives tokens {shape}, of which the grid is not known; declare it, as in layout={proposal}.")


def _believable(told: Iterable[FeatureLayout], last: bool, grids: Sequence[tuple[int, ...]]) -> Iterator[FeatureLayout]:
    """Yield the layouts from the attributes of the model, unless it has made another grid of as many tokens.

    The attributes describe the usual size of the image, and are wrong for an image of other sides.
    """
    for layout in told:
        tokens = math.prod(layout.grid or ())
        made = [grid for grid in grids if math.prod(grid) == tokens]
        if layout.channels_last == last and (not made or layout.grid in made):
            yield layout


def _proposal(tokens: int, grids: Sequence[tuple[int, ...]], last: bool = True) -> FeatureLayout:
    """Return a layout to propose: the largest grid in the model that fits, behind prefix tokens, or a single row."""
    fitting = [grid for grid in grids if tokens / 2 < math.prod(grid) <= tokens]
    grid = max(fitting, key=math.prod, default=(tokens,))
    return FeatureLayout(last, tokens - math.prod(grid), grid)


def _windows(shape: tuple[int, ...]) -> str:
    return (
        f"the layer gives {shape}, whose positions are those of windows, or in another order than in the image; use a "
        "layer before they are moved, or behind which they are moved back."
    )


def told_layouts(modules: Iterable[nn.Module]) -> Iterator[FeatureLayout]:
    """Yield layouts from the attributes of modules: those of torchvision's vision transformer, and of timm's models."""
    for module in modules:
        # The vision transformer of torchvision, which has one class token
        if isinstance(getattr(module, "class_token", None), Tensor) and hasattr(module, "patch_size"):
            side = int(module.image_size) // int(module.patch_size)  # type: ignore[arg-type]  # torchvision's: both are int
            yield FeatureLayout(True, 1, (side, side))
        # The transformers of timm
        prefix, grid = (
            getattr(module, "num_prefix_tokens", None),
            getattr(getattr(module, "patch_embed", None), "grid_size", None),
        )
        if isinstance(prefix, int) and isinstance(grid, tuple):
            yield FeatureLayout(True, prefix, grid)
