"""Networks with random weights, for metrics that ask whether a map depends on what the model has learned."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from captum_softcam._intervention.view import duplicate
from captum_softcam._names import quoted

__all__ = ["RandomisedModels"]


class RandomisedModels:
    """Copies of a model whose weights are random, all at once or stage after stage :cite:p:`adebayo2018sanity`.

    The values of each weight tensor are permuted at random: what was learned is gone, while mean, deviation and tails of the
    values stay. The buffers stay as they are, running statistics of batch normalisation among them. So the activations of a
    random network are of the size of the trained one's, and its maps are neither flat nor infinite.

    Departures from :cite:t:`adebayo2018sanity` and from Quantus, which initialise weights as before a training: a deep
    network that is initialised anew and not trained has no batch statistics, and in eval mode its activations vanish (in
    EfficientNet-Lite0 the logits of two photographs differ by 1e-9, and maps are flat); parameters of modules without
    ``reset_parameters`` would stay as trained (class tokens, position embeddings, layer scales). Not changed are single
    numbers, such as a temperature, and tensors whose values are all equal.

    The layers are the modules with parameters of their own. They are ordered from the output to the input, in reverse order
    of ``model.named_modules()``, and divided into stages of as many layers each. The evidence head of a SoftCAM model is one
    of them.

    The weights are drawn once, when the first network is needed. All networks share them, and the weights that are not
    random with the model; so all networks of a model need the memory of one more copy. The model itself is not changed.

    Args:
        model (torch.nn.Module): in eval mode.
        seed (int): of the random weights; they are the same on every device. Default: 0

    Example::

        >>> random = RandomisedModels(model).full()
        >>> random(images).shape == model(images).shape
        True
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.model = model
        self.seed = seed
        self._networks: dict[frozenset[str], nn.Module] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the model and the seed, from which another process draws the same weights."""
        return {"model": self.model, "seed": self.seed, "_networks": {}}

    def full(self) -> nn.Module:
        """Return the network with all weights random.

        Returns:
            torch.nn.Module: with the names of modules of the model. Do not change it: all metrics share it.

        Raises:
            ValueError: if the model has no weights to randomise, or cannot be copied.
        """
        return self._network(self._layers)

    def cascading(self, stages: int = 4) -> list[nn.Module]:
        """Return networks with more and more random weights, from the output to the input.

        Args:
            stages (int): number of networks; fewer if the model has fewer layers. Default: 4

        Returns:
            list of torch.nn.Module: the last one is :meth:`full`.

        Raises:
            ValueError: if ``stages`` is below 1, the model has no weights to randomise, or cannot be copied.
        """
        groups = self._groups(stages)
        return [self._network([name for group in groups[: i + 1] for name in group]) for i in range(len(groups))]

    def independent(self, stages: int = 4) -> list[nn.Module]:
        """Return networks in each of which one stage is random, from the output to the input.

        Args:
            stages (int): number of networks; fewer if the model has fewer layers. Default: 4

        Returns:
            list of torch.nn.Module: the first one is the first of :meth:`cascading`.

        Raises:
            ValueError: if ``stages`` is below 1, the model has no weights to randomise, or cannot be copied.
        """
        return [self._network(group) for group in self._groups(stages)]

    @cached_property
    def _layers(self) -> list[str]:
        layers = [name for name, module in self.model.named_modules() if any(map(_is_random, _own(module)))]
        if not layers:
            raise ValueError(
                f"{type(self.model).__name__} has no weights to randomise: it has no parameters, or all are constant; leave "
                "out the metrics of randomisation."
            )
        return layers[::-1]

    @cached_property
    def _random(self) -> dict[int, nn.Parameter]:
        """The random weights by the id of the weights that they replace."""
        # Drawn on the CPU, because generators of other devices give other numbers.
        generator = torch.Generator().manual_seed(self.seed)
        return {id(weights): _permuted(weights, generator) for weights in self.model.parameters()}

    def _groups(self, stages: int) -> list[list[str]]:
        if not isinstance(stages, Integral) or stages < 1:
            raise ValueError(f"stages is {quoted(stages)}; expected a whole number from 1 up.")
        return [list(group) for group in np.array_split(self._layers, min(stages, len(self._layers)))]

    def _network(self, layers: Sequence[str]) -> nn.Module:
        """Return the network in which these layers are random."""
        key = frozenset(layers)
        if key not in self._networks:
            self._networks[key] = self._copy(layers)
        return self._networks[key]

    def _copy(self, layers: Sequence[str]) -> nn.Module:
        changed = {id(weights) for name in layers for weights in _own(self.model.get_submodule(name))}
        shared: dict[int, Tensor] = {id(buffer): buffer for buffer in self.model.buffers()}
        shared |= {id(own): self._random[id(own)] if id(own) in changed else own for own in self.model.parameters()}
        network = cast(nn.Module, duplicate(self.model, shared))
        for (name, own), copied in zip(self.model.named_parameters(), network.parameters(), strict=True):
            wanted = shared[id(own)]
            if copied is wanted:
                continue
            if copied.data_ptr() == own.data_ptr():  # writing to it would change the user's model
                raise ValueError(
                    f"a copy of {type(self.model).__name__} has the weights {quoted(name)} of the model itself, because its "
                    "class has a __deepcopy__ of its own; remove that, or leave out the metrics of randomisation."
                )
            copied.data.copy_(wanted)  # such as TorchScript, whose parameters are copied outside Python
        for module in network.modules():
            if "attention_bias_cache" in vars(module):  # timm's, worked out from the trained weights
                vars(module)["attention_bias_cache"] = {}
        return network


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _is_random(weights: Tensor) -> bool:
    """Return whether a permutation changes the weights."""
    return weights.numel() > 1 and bool((weights != weights.flatten()[0]).any())


def _permuted(weights: nn.Parameter, generator: torch.Generator) -> nn.Parameter:
    order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
    return nn.Parameter(weights.detach().flatten()[order].view(weights.shape), weights.requires_grad)
