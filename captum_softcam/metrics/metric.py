"""What a metric of the comparison is: a Quantus class with settings that mean something for images and maps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning

from captum_softcam.metrics.patches import PatchGame

__all__ = ["Metric"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """One column of a comparison.

    Args:
        name (str): the metric's name in files and on the command line.
        title (str): the same for a table's head.
        category (str): ``"localisation"`` asks whether the map lies on the mask, ``"faithfulness"`` whether the model
            needs what the map marks.
        higher_is_better (bool): the direction.
        source (str): the citation key.
        forwards (int): model runs per image and method.
        quantus_class (str): name of the Quantus class that does the work.
        settings (mapping): its arguments.
        prepare (callable): what is handed to Quantus in the place of the maps (N, 1, H, W).
        reduce (callable): what Quantus answers -> scores (N,). Default: the answer as it is
        call (mapping): further arguments of the Quantus call. Default: none
    """

    name: str
    title: str
    category: Literal["localisation", "faithfulness"]
    higher_is_better: bool
    source: str
    forwards: int
    quantus_class: str
    settings: Mapping[str, Any]
    prepare: Callable[[Array], Array]
    reduce: Callable[[Any], Array] = np.asarray
    call: Mapping[str, Any] | None = None

    def localise(self, maps: Array, masks: Array) -> Array:
        """Scores (N,) of maps (N, 1, H, W) against masks (N, 1, H, W); no model is run."""
        blank = np.zeros_like(maps)
        return self._ask(None, blank, np.zeros(len(maps), int), self.prepare(maps), masks, seed=0)

    def test(self, maps: Array, targets: Array, game: PatchGame, seed: int) -> Array:
        """Scores (N,) of maps (N, 1, H, W) by what the model says when patches are taken away."""
        patches = self.prepare(game.shares(maps))
        return self._ask(game, np.ones_like(patches), targets, patches, None, seed)

    def _ask(
        self, model: PatchGame | None, inputs: Array, targets: Array, maps: Array, masks: Array | None, seed: int
    ) -> Array:
        import quantus  # takes seconds

        metric = getattr(quantus, self.quantus_class)(
            **self.settings, abs=False, normalise=False, return_aggregate=False, disable_warnings=True
        )
        maps.flags.writeable = False  # some Quantus metrics write into what they are given
        with _numpy_seed(seed), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)  # a score that never moves: NaN says so
            answer = metric(
                model=model,
                x_batch=inputs,
                y_batch=targets,
                a_batch=maps,
                s_batch=masks,
                channel_first=True,
                batch_size=len(maps),
                **self.call or {},
            )
        return self.reduce(answer).astype(np.float64)


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Quantus draws from numpy's global stream: start it at ``seed``, and give it back as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
