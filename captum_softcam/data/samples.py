"""The record that every data set of this package yields: a picture, its class, and where the evidence lies.

It is special in one point only: the mask is part of the sample, so that localisation metrics need no second source.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Sample", "Samples"]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One labelled picture with the region that makes it belong to its class.

    Samples compare by identity, for tensors have no single truth value. ``torch.utils.data.default_collate`` does
    not know this class: give a ``DataLoader`` a ``collate_fn`` that stacks the fields you need.

    Args:
        image (Tensor): The picture, (3, H, W), float32 in [0, 1].
        target (int): The index of the class.
        mask (Tensor or None): True where the evidence for the class lies, (1, H, W), bool; None where there is
            nothing to localise, as in a healthy picture.
        identifier (str): A name that is unique in the data set, for tables and file names.

    Example::

        >>> sample = Sample(torch.zeros(3, 8, 8), 0, None, "blank-000000")
        >>> sample.image.shape, sample.mask
        (torch.Size([3, 8, 8]), None)
    """

    image: Tensor
    target: int
    mask: Tensor | None
    identifier: str


class Samples(Protocol):
    """Whatever has a length and gives samples by number: a list, a data set of this package, a ``Subset`` of one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...
