"""Health of metrics: which of them can be trusted on the samples and the model of a comparison.

A metric works if it ranks methods above controls, which ignore the model, and maps of the trained network above those of a
network with random weights. It fails if it does the opposite, or if its scores depend on something else: the seed, a little
noise, the other samples of the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from captum_softcam._names import listed, named
from captum_softcam.evaluation.statistics import (
    LEVEL,
    MIN_PAIRS,
    count_images,
    holm,
    krippendorff_alpha,
    mean_intervals,
    rank_agreement,
    sign_flip_p_values,
    smallest_p_value,
    wilcoxon_p_values,
    win_rates,
)

__all__ = ["DESCRIBING", "HealthInputs", "Measure", "MetricHealth", "counted", "measure_health"]

DESCRIBING = frozenset({"complexity", "robustness", "axiomatic"})
"""Families that describe maps and do not judge them: a map that ignores the model can be sparse, robust and symmetric."""

_SUBJECTS = {
    "complexity": "complexity describes",
    "robustness": "robustness describes",
    "axiomatic": "axioms describe",
}

Verdict = Literal["works", "fails", "cannot be told", "describes"]

_ORDER = 0.5  # tau below which fewer than three quarters of the pairs of methods keep their order
_ALIKE = 0.2  # of the mean difference between two methods: differences within are negligible
_BATCH = 0.05  # of the standard deviation of the scores, by which they may change in another batch
_FLIPS = 4000  # enough for a level of 5 % and a handful of tests per metric
_EQUAL = 1e-6  # of the largest magnitude; scores that differ by less are equal

Array = NDArray[np.float64]


def counted(categories: Mapping[str, str], failing: Collection[str]) -> list[str]:
    """Return the metrics that count in the mean rank and the summary: those that judge methods and do not fail.

    A map may well be long, rough or complex and right, so that metrics that only describe maps count where no other metric
    was asked for.

    Args:
        categories (mapping): the category of each metric.
        failing (collection of str): names of the metrics that fail.

    Returns:
        list of str: their names, in order.
    """
    judging = [name for name, category in categories.items() if category not in DESCRIBING]
    return [name for name in judging or categories if name not in failing]


@dataclass(frozen=True)
class HealthInputs:
    """Scores and probes from which the health of metrics is computed.

    Args:
        scores (ndarray): (S, M, K) of S samples, M methods and K metrics; NaN where undefined.
        methods, metrics, images (sequence of str): their names, and the image of each sample.
        directions (ndarray): (K,), 1 if higher is better, -1 if lower is.
        categories (sequence of str): the family of each metric.
        controls (sequence of str): names of the methods that ignore the model.
        same (sequence of sequence of str): groups of methods that give the same map, which count once. Default: none
        probes (mapping): scores (S, M, K) by probe, NaN where it was not measured. Default: none
        errors (mapping): the first error of each probe that has one. Default: none
    """

    scores: Array
    methods: Sequence[str]
    metrics: Sequence[str]
    images: Sequence[str]
    directions: Array
    categories: Sequence[str]
    controls: Sequence[str]
    same: Sequence[Sequence[str]]
    probes: Mapping[str, Array]
    errors: Mapping[str, str]

    @cached_property
    def signed(self) -> Array:
        """The scores with the direction applied: more is better."""
        return self.scores * self.directions

    @cached_property
    def distinct(self) -> list[int]:
        """Places of the methods, of those with the same map only the first."""
        others = {name for group in self.same for name in group if name != min(group, key=self.methods.index)}
        return [place for place, name in enumerate(self.methods) if name not in others]

    @cached_property
    def real(self) -> list[int]:
        """Places of the distinct methods that are not controls."""
        return [place for place in self.distinct if self.methods[place] not in self.controls]


@dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval.

    Args:
        value, low, high (float): the number and its interval; NaN where it is not known.
        p_value (float): of the test that the number is 0; NaN where there is none. Default: NaN
        count (int): number of images. Default: 0
        fraction (float): fraction of the samples in which the difference is in the better direction. Default: NaN
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    count: int = 0
    fraction: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return math.isfinite(self.value)

    def text(self, places: int, *, signed: bool = False) -> str:
        """Return the number with its interval as text; empty if it is not known.

        Args:
            places (int): number of decimals.
            signed (bool): whether a number above 0 has a plus sign. Default: False
        """
        style = "+" if signed else ""
        ends = (f"{value + 0.0:{style}.{places}f}" for value in (self.value, self.low, self.high))
        return "{} [{}, {}]".format(*ends) if self.known else ""

    @property
    def clearly(self) -> int:
        """1 if the number is clearly above 0, -1 if it is clearly below, else 0."""
        return int(np.sign(self.value)) if self.known and self.p_value <= LEVEL and self.count >= MIN_PAIRS else 0


@dataclass(frozen=True)
class MetricHealth:
    """The health of one metric; the fields are described at :meth:`Comparison.health`."""

    metric: str
    category: str
    verdict: Verdict
    reason: str
    controls: Mapping[str, Measure]
    random_network: Measure
    agreement: Measure
    alpha: float
    seed: Measure
    noise: Measure
    baseline: Measure
    batch: float
    iac_nr: float
    iec_nr: float
    iac_ar: float
    iec_ar: float

    @property
    def fails(self) -> bool:
        """Whether the metric fails, so that it is left out of the mean rank."""
        return self.verdict == "fails"

    def row(self) -> dict[str, Any]:
        """Return the row of :meth:`Comparison.health`."""
        measures = {"random_network": self.random_network, **{f"over_{name}": each for name, each in self.controls.items()}}
        columns: dict[str, Any] = {"verdict": self.verdict, "reason": self.reason, "category": self.category}
        for name, measure in measures.items():
            columns |= _ends(name, measure) | {f"{name}_fraction": measure.fraction, f"{name}_images": measure.count}
        for name in ("agreement", "seed", "noise", "baseline"):
            columns |= _ends(name, getattr(self, name))
        return columns | {name: getattr(self, name) for name in ("alpha", "batch", "iac_nr", "iec_nr", "iac_ar", "iec_ar")}


def _ends(name: str, measure: Measure) -> dict[str, float]:
    return {name: measure.value, f"{name}_low": measure.low, f"{name}_high": measure.high}


def measure_health(given: HealthInputs) -> dict[str, MetricHealth]:
    """Measure the health of every metric, by name.

    Cost: a bootstrap of about 10 columns per metric, and sign-flip tests of as many as there are pairs of a method and a
    control; 0.3 s for 48 samples, 8 methods and 8 metrics, and no run of the model.

    Args:
        given (HealthInputs): scores and probes.
    """
    versus = {name: _against(given, given.methods.index(name)) for name in given.controls}
    better = {name: _any_better(given, given.methods.index(name)) for name in given.controls}
    network = _random_network(given)
    agreements, alphas = _agreements(given), _alphas(given)
    found = {}
    for k, metric in enumerate(given.metrics):
        measured: dict[str, Any] = {
            "controls": {name: measures[k] for name, measures in versus.items()},
            "random_network": network[k],
            "agreement": agreements[k],
            "alpha": alphas[given.categories[k]],
            "seed": _order_kept(given, "seed", k),
            "noise": _order_kept(given, "noise", k),
            "baseline": _other_baselines(given, k),
            "batch": _change_alone(given, k),
            **_meta_consistency(given, k),
        }
        ahead = {name: flags[k] for name, flags in better.items()}
        verdict, reason = _judge(given, k, measured, ahead)
        found[metric] = MetricHealth(metric, given.categories[k], verdict, reason, **measured)
    return found


def _measures(differences: Array, images: Sequence[str], tests: int = 1) -> list[Measure]:
    """Return the mean of each column (S, C), with p-values adjusted for a number of tests (Bonferroni)."""
    mean, low, high = mean_intervals(differences, images)
    p = np.minimum(1, tests * sign_flip_p_values(differences, images, flips=_FLIPS))
    defined = np.isfinite(differences)
    counts, wins = count_images(defined, images), win_rates(differences, np.ones(differences.shape[1]))
    columns = zip(*(each.tolist() for each in (mean, low, high, p, counts, wins)), strict=True)
    return [Measure(*column) for column in columns]


def _mean_of(values: Array) -> Array:
    """Average over methods (S, M, K), those that are defined; (S, K)."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1))


def _against(given: HealthInputs, control: int) -> list[Measure]:
    """Compare the mean over the real methods with a control, under each metric."""
    differences = _mean_of(given.signed[:, given.real] - given.signed[:, [control]])
    return _measures(differences, given.images, tests=len(given.controls))


def _any_better(given: HealthInputs, control: int) -> list[bool]:
    """Return under each metric whether a real method is clearly better than a control, corrected for their number."""
    differences = given.signed[:, given.real] - given.signed[:, [control]]
    count, metrics = len(given.real), len(given.metrics)
    measures = _measures(differences.reshape(len(differences), count * metrics), given.images)
    adjusted = _holm_by_column(np.array([each.p_value for each in measures]).reshape(count, metrics))
    means = np.array([each.value for each in measures]).reshape(count, metrics)
    ahead: NDArray[np.bool_] = (adjusted <= LEVEL) & (means > 0)
    return [bool(flag) for flag in np.atleast_1d(ahead.any(axis=0))]


def _holm_by_column(p_values: Array) -> Array:
    """Adjust the p-values of each column by Holm's procedure."""
    return np.stack([holm(column) for column in p_values.T], axis=1) if p_values.size else p_values


def _random_network(given: HealthInputs) -> list[Measure]:
    """Compare the maps of the trained network with those of the random one, as the mean over the real methods."""
    if "random_network" not in given.probes:
        return [Measure()] * len(given.metrics)
    random = given.probes["random_network"] * given.directions
    return _measures(_mean_of(given.signed[:, given.real] - random[:, given.real]), given.images)


def _order_kept(given: HealthInputs, probe: str, k: int) -> Measure:
    """Return how far a probe keeps the order of the methods under a metric."""
    if probe not in given.probes:
        return Measure()
    tau = rank_agreement(given.scores[:, given.distinct, k], given.probes[probe][:, given.distinct, k])
    return _measures(tau[:, None], given.images)[0]


def _other_baselines(given: HealthInputs, k: int) -> Measure:
    """Return how far the metric with other baselines of its perturbation, which are columns, orders the methods alike."""
    name = given.metrics[k].partition("@")[0]
    others = [j for j, other in enumerate(given.metrics) if j != k and other.partition("@")[0] == name]
    return _mean_agreement(given, k, others)


def _mean_agreement(given: HealthInputs, k: int, others: Sequence[int]) -> Measure:
    if not others:
        return Measure()
    signed = given.signed[:, given.distinct]
    taus = np.stack([rank_agreement(signed[:, :, k], signed[:, :, j]) for j in others], axis=1)
    return _measures(_mean_of(taus[:, :, None]), given.images)[0]


def _agreements(given: HealthInputs) -> list[Measure]:
    """Return how far each metric agrees with the others that judge, other baselines of itself left out."""
    names = [name.partition("@")[0] for name in given.metrics]
    judging = [k for k, category in enumerate(given.categories) if category not in DESCRIBING]
    return [_mean_agreement(given, k, [j for j in judging if names[j] != names[k]]) for k in range(len(given.metrics))]


def _alphas(given: HealthInputs) -> dict[str, float]:
    """Return Krippendorff's alpha of each family."""
    families = {name: [k for k, each in enumerate(given.categories) if each == name] for name in given.categories}
    signed = given.signed[:, given.distinct]
    return {name: krippendorff_alpha(signed[:, :, members]) for name, members in families.items()}


def _change_alone(given: HealthInputs, k: int) -> float:
    """Return the largest change of a score in a batch of its own, relative to the standard deviation of all scores."""
    if "alone" not in given.probes:
        return math.nan
    changes = np.abs(given.probes["alone"][:, :, k] - given.scores[:, :, k])
    spread = _spread(given.scores[:, :, k])
    largest = changes[np.isfinite(changes)].max(initial=-math.inf)
    return math.nan if largest < 0 else float(largest / spread) if spread else float(largest > 0)


def _spread(scores: Array) -> float:
    defined = scores[np.isfinite(scores)]
    return float(defined.std()) if len(defined) else 0.0


def _meta_consistency(given: HealthInputs, k: int) -> dict[str, float]:
    """Return the four entries of the consistency vector of MetaQuantus :cite:`hedstroem2023meta`."""
    missing = np.full_like(given.scores, np.nan)
    noisy, random = (given.probes.get(each, missing)[:, :, k] * given.directions[k] for each in ("noise", "random_network"))
    every, shaken = (each[:, given.distinct] for each in (given.signed[:, :, k], noisy))
    scores, random = (each[:, given.real] for each in (given.signed[:, :, k], random))
    return {
        "iac_nr": _finite_mean(wilcoxon_p_values(shaken - every)),
        "iec_nr": _finite_mean(_same_ranks(every, shaken)),
        "iac_ar": _finite_mean(1 - wilcoxon_p_values(random - scores)),
        "iec_ar": _finite_mean(np.where(np.isfinite(random - scores), random < scores, np.nan)),
    }


def _same_ranks(one: Array, other: Array) -> Array:
    """Return 1 for each sample and method whose rank stays, 0 where it does not, NaN where a score is missing."""
    whole = np.isfinite(np.concatenate([one, other], axis=1)).all(axis=1, keepdims=True)
    ranks = [(each[:, :, None] > each[:, None, :]).sum(axis=2) for each in (one, other)]
    return np.where(whole, ranks[0] == ranks[1], np.nan)


def _finite_mean(values: Array) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _judge(given: HealthInputs, k: int, measured: Mapping[str, Any], ahead: Mapping[str, bool]) -> tuple[Verdict, str]:
    """Return the verdict on a metric, with its reason in words."""
    if not np.isfinite(given.scores[:, :, k]).any():
        return "cannot be told", "it has no scores"
    if given.categories[k] in DESCRIBING:
        return "describes", f"{_SUBJECTS[given.categories[k]]} a map: one that ignores the model can be the best"
    if found := _flaws(given, k, measured, ahead):
        return "fails", "; ".join(found)
    if found := _doubts(given, k, measured, ahead):
        return "cannot be told", "; ".join(found)
    asked = f"methods are clearly better than {_named(given.controls)}"
    if given.categories[k] == "randomisation":
        return "works", asked
    return "works", f"{asked}, and the trained network than a random one"


def _flaws(given: HealthInputs, k: int, measured: Mapping[str, Any], ahead: Mapping[str, bool]) -> list[str]:
    """Return what speaks against a metric."""
    if _ignores_the_map(given, k):
        return ["it gives all maps of a sample the same score"]
    network, randomised = measured["random_network"], given.categories[k] == "randomisation"
    beaten = [
        f"{named(name)}, which ignores the model, is clearly better than the methods on average, by "
        f"{-measure.value:.2g} [{-measure.high:.2g}, {-measure.low:.2g}]"
        for name, measure in measured["controls"].items()
        if measure.clearly < 0 and not ahead[name]
    ]
    checks: list[tuple[bool, str]] = [
        (not randomised and network.clearly < 0, "maps of a network with random weights are clearly better"),
        (not randomised and _alike(given, k, network), "maps of a network with random weights are as good"),
        (_lost(measured["seed"]), "another seed of its random subsets changes the order of the methods"),
        (_lost(measured["noise"]), "a little noise on the image changes the order of the methods"),
        (measured["batch"] > _BATCH, "its scores depend on the other samples of the batch"),
    ]
    return beaten + [words for fails, words in checks if fails]


def _doubts(given: HealthInputs, k: int, measured: Mapping[str, Any], ahead: Mapping[str, bool]) -> list[str]:
    """Return what is missing for the verdict that a metric works."""
    unclear = [name for name, clear in ahead.items() if not clear]
    network: Measure = measured["random_network"]
    doubts = [_controls_in_words(given, k, unclear)] if unclear else []
    if not given.controls:
        doubts.append("no control takes part")
    if not given.real:
        doubts.append("no method but controls takes part")
    if given.categories[k] != "randomisation" and network.clearly <= 0:
        doubts.append(_network_in_words(given, network))
    return doubts


def _controls_in_words(given: HealthInputs, k: int, unclear: Sequence[str]) -> str:
    scored = np.asarray(np.isfinite(given.scores[:, given.real, k]).any(axis=1, keepdims=True))
    images, needed = int(count_images(scored, given.images)[0]), _fewest_images(len(given.real))
    if images < needed:
        return f"{images} images are too few to tell a method from a control, of {needed} at least"
    return f"no method is clearly better than {_named(unclear)}"


def _fewest_images(tests: int) -> int:
    """Return with how many images the smallest of so many p-values can be clear: all signs are equal in one test."""
    return next(count for count in itertools.count(MIN_PAIRS) if tests * smallest_p_value(np.array(count)) <= LEVEL)


def _network_in_words(given: HealthInputs, network: Measure) -> str:
    if not network.known:
        error = given.errors.get("random_network")
        if error:
            return f"a network with random weights could not be compared: {error}"
        return "it has no score of a network with random weights" if given.probes else "it was not probed"
    if network.count < MIN_PAIRS:
        return f"{network.count} probed images are too few to tell the trained network from a random one"
    return f"on {network.count} images, the trained network is not clearly better than a random one"


def _ignores_the_map(given: HealthInputs, k: int) -> bool:
    """Return whether the methods have equal scores in nearly all samples."""
    scores = given.scores[:, given.distinct, k]
    whole = np.isfinite(scores).all(axis=1)
    if whole.sum() < MIN_PAIRS or len(given.distinct) < 2:
        return False
    ranges = np.ptp(scores[whole], axis=1)
    return bool((ranges <= _EQUAL * np.abs(scores[whole]).max()).mean() >= 1 - LEVEL)


def _alike(given: HealthInputs, k: int, difference: Measure) -> bool:
    """Return whether a difference is negligible beside those between two methods of one sample."""
    scores = given.scores[:, given.distinct, k]
    with np.errstate(invalid="ignore"):  # the difference of two infinite scores is NaN
        gaps = np.abs(scores[:, :, None] - scores[:, None, :])
    usual = _finite_mean(gaps) * len(given.distinct) / max(1, len(given.distinct) - 1)  # without each method and itself
    within = max(abs(difference.low), abs(difference.high)) <= _ALIKE * usual
    return bool(difference.known and difference.count >= MIN_PAIRS and within)


def _lost(order: Measure) -> bool:
    """Return whether clearly less than three quarters of the pairs of methods keep their order."""
    return order.known and order.count >= MIN_PAIRS and order.high < _ORDER


def _named(names: Sequence[str]) -> str:
    return listed([named(name) for name in names])
