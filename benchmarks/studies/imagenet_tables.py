"""The tables of the study on ImageNet: means and paired differences per network, from its comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from study import Array, Finding, Interval, Results, interval

from captum_softcam.evaluation import Comparison

NAME = "imagenet"
PAPER = "recipro_gaussian_spread_softmax"
"""Recipro-CAM as in its paper: probabilities, and the mask of the authors' first release."""

TITLES = {
    "grad_cam": "Grad-CAM",
    "class_activation_map": "CAM",
    "soft_cam": "SoftCAM by conversion",
    "recipro_one_hot": "Recipro-CAM, logits, one position",
    "recipro_gaussian": "Recipro-CAM, logits, Gaussian",
    "recipro_gaussian_spread": "Recipro-CAM, logits, spread",
    "recipro_one_hot_softmax": "Recipro-CAM, probabilities, one position",
    "recipro_gaussian_softmax": "Recipro-CAM, probabilities, Gaussian",
    PAPER: "Recipro-CAM, probabilities, spread (the paper's)",
    "score_cam": "Score-CAM",
    "grad_cam_earlier": "Grad-CAM, layer before",
    "recipro_one_hot_earlier": "Recipro-CAM, logits, one position, layer before",
    "recipro_one_hot_softmax_earlier": "Recipro-CAM, probabilities, one position, layer before",
    "recipro_gaussian_softmax_earlier": "Recipro-CAM, probabilities, Gaussian, layer before",
    f"{PAPER}_earlier": "Recipro-CAM, probabilities, spread, layer before",
    "score_cam_earlier": "Score-CAM, layer before",
    "integrated_gradients": "Integrated Gradients",
    "occlusion": "Occlusion",
    "centred_gaussian": "*bell in the middle*",
    "edge_map": "*edge map*",
    "random": "*random*",
}
"""The methods in the order of tables; controls in italics."""

PARTS_OF_ADCC = ("average_drop", "coherency", "map_complexity")
OF_MEANS = "adcc_of_means"
WITHOUT_COMPLEXITY = "without_complexity"
LOWER_IS_BETTER = {"average_drop", "map_complexity", "deletion", "road"}
BELL = "centred_gaussian"
PAIRS = (
    (PAPER, "grad_cam"),
    ("recipro_one_hot_softmax", "grad_cam"),
    ("recipro_gaussian_softmax", "grad_cam"),
    ("recipro_gaussian", "grad_cam"),
    ("recipro_one_hot", "grad_cam"),
    (PAPER, "score_cam"),
    ("recipro_one_hot_softmax", "score_cam"),
    ("grad_cam", "score_cam"),
    (PAPER, "recipro_one_hot_softmax"),
    ("recipro_gaussian_softmax", "recipro_one_hot_softmax"),
    ("recipro_gaussian", "recipro_one_hot"),
    (f"{PAPER}_earlier", "grad_cam_earlier"),
    ("recipro_one_hot_earlier", "grad_cam_earlier"),
    (f"{PAPER}_earlier", "score_cam_earlier"),
    ("score_cam", PAPER),
    ("score_cam_earlier", f"{PAPER}_earlier"),
    (f"{PAPER}_earlier", "recipro_one_hot_softmax_earlier"),
    ("recipro_gaussian_softmax_earlier", "recipro_one_hot_softmax_earlier"),
    ("grad_cam", "grad_cam_earlier"),
    ("grad_cam", "occlusion"),
    ("grad_cam", "integrated_gradients"),
    ("soft_cam", "occlusion"),
    ("soft_cam", "integrated_gradients"),
    *((method, BELL) for method in ("grad_cam", PAPER, "recipro_one_hot_softmax", "recipro_gaussian", "grad_cam_earlier")),
    *((method, BELL) for method in ("score_cam", "score_cam_earlier", "integrated_gradients", "occlusion")),
)
"""The methods that are compared: the first minus the second, on the same photographs."""

OF_RIGHT_CLASS = ("grad_cam", "recipro_one_hot_softmax", "recipro_gaussian_softmax", PAPER, BELL)
"""Methods that are also measured on the photographs whose class is predicted."""

_RESAMPLES = 2000
_LIMITS = 2.5, 97.5


class Parts(NamedTuple):
    """What was measured of a network.

    Args:
        comparisons (dict): by part of the study.
        difference (ndarray): largest difference of the logits after the conversion, over their range, (S,).
    """

    comparisons: Mapping[str, Comparison]
    difference: Array


def tables_of(network: str, parts: Parts, results: Results) -> None:
    """Add the tables of a network, and what its comparisons say about themselves."""
    scores = scores_of(parts.comparisons)
    add_scores(network, scores, results)
    right = predicted(parts.comparisons["fast"])
    add_scores(network_table(network, "right class"), scores.loc[right, [*OF_RIGHT_CLASS]], results)
    results.add(network_table(network, "conversion"), "logits", "difference", _extent(parts.difference))
    results.settings["networks"][network] = {
        "photographs": {part: len(each.samples) for part, each in parts.comparisons.items()},
        "right class": len(right),
        "same_maps": [list(group.methods) for group in parts.comparisons["fast"].same_maps],
        "health": {name: found for each in parts.comparisons.values() for name, found in _health(each).items()},
        "forwards": {
            name: round(float(row["forwards"] + row["backwards"]), 1)
            for each in parts.comparisons.values()
            for name, row in each.costs.iterrows()
        },
    }


def predicted(comparison: Comparison) -> list[str]:
    """Return the photographs whose class the network predicts."""
    rows = comparison.scores.drop_duplicates("sample")
    return list(rows.loc[rows["prediction"] == rows["label"], "sample"])


def scores_of(comparisons: Mapping[str, Comparison]) -> pd.DataFrame:
    """Return all scores, one row per photograph and one column per method and metric; NaN where not measured."""
    tables = [
        each.scores.pivot(index="sample", columns=["method", "metric"], values="score") for each in comparisons.values()
    ]
    scores = pd.concat(tables, axis=1).reindex(comparisons["fast"].samples)
    return with_shared(scores, [group.methods for group in comparisons["fast"].same_maps])


def with_shared(scores: pd.DataFrame, groups: Iterable[Sequence[str]]) -> pd.DataFrame:
    """Fill in the metrics that were measured for one of several methods with the same maps.

    Args:
        scores (DataFrame): one column per method and metric.
        groups (iterable of sequence of str): methods whose maps are the same, up to a constant where it does not matter.
    """
    added = {
        (other, metric): scores[one, metric]
        for group in groups
        for one in group
        for metric in scores[one]
        for other in group
        if (other, metric) not in scores
    }
    return pd.concat([scores, pd.DataFrame(added)], axis=1) if added else scores


def add_scores(network: str, scores: pd.DataFrame, results: Results) -> None:
    """Add means and differences of one network."""
    for method in TITLES:
        if method not in scores:
            continue
        found = scores[method]
        for metric in found:
            results.add(network_table(network, "means"), method, metric, interval(found[metric].to_numpy()))
        for name, statistic in _STATISTICS.items():
            if set(PARTS_OF_ADCC) <= set(found):
                results.add(network_table(network, "means"), method, name, bootstrap(_parts(found), statistic))
    for one, other in PAIRS:
        if one in scores and other in scores:
            _add_pair(network, one, other, scores, results)


def _add_pair(network: str, one: str, other: str, scores: pd.DataFrame, results: Results) -> None:
    table, row = network_table(network, "differences"), f"{one} - {other}"
    ours, theirs = scores[one], scores[other]
    metrics = [metric for metric in ours if metric in theirs]
    for metric in metrics:
        sign = -1 if metric in LOWER_IS_BETTER else 1
        results.add(table, row, metric, interval(sign * (ours[metric] - theirs[metric]).to_numpy()))
    for name, statistic in _STATISTICS.items():
        if set(PARTS_OF_ADCC) <= set(metrics):
            results.add(table, row, name, bootstrap(_parts(ours), statistic, _parts(theirs)))


def network_table(network: str, what: str) -> str:
    """Return the name of a table of a network."""
    return f"{network}: {what}"


def _parts(found: pd.DataFrame) -> Array:
    return np.asarray(found[list(PARTS_OF_ADCC)].to_numpy(), dtype=float)


# ADCC of means --------------------------------------------------------------------------------------------------------


def of_means(means: Array) -> Array:
    """Compute ADCC as papers report it, from means of drop, coherency and complexity, (..., 3)."""
    drop, coherency, complexity = np.moveaxis(means, -1, 0)
    with np.errstate(divide="ignore"):
        return np.asarray(3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)))


def without_complexity(means: Array) -> Array:
    """Compute the harmonic mean of the two other parts."""
    drop, coherency, _ = np.moveaxis(means, -1, 0)
    with np.errstate(divide="ignore"):
        return np.asarray(2 / (1 / coherency + 1 / (1 - drop)))


_STATISTICS: dict[str, Callable[[Array], Array]] = {OF_MEANS: of_means, WITHOUT_COMPLEXITY: without_complexity}


def bootstrap(parts: Array, statistic: Callable[[Array], Array], minus: Array | None = None) -> Interval:
    """Compute a statistic of means, or its difference between two methods, with the interval of drawn photographs.

    Args:
        parts (ndarray): (S, 3); photographs without all parts are left out.
        statistic (callable): means (..., 3) -> values (...).
        minus (ndarray): parts of another method on the same photographs. Default: none
    """
    both = parts if minus is None else np.concatenate([parts, minus], axis=1)
    both = both[np.isfinite(both).all(axis=1)]
    if not len(both):
        return Interval(float("nan"), float("nan"), float("nan"))
    drawn = np.random.default_rng(0).integers(len(both), size=(_RESAMPLES, len(both)))

    def value(means: Array) -> Array:
        return statistic(means[..., :3]) - (0 if minus is None else statistic(means[..., 3:]))

    low, high = np.percentile(value(both[drawn].mean(axis=1)), _LIMITS)
    return Interval(float(value(both.mean(axis=0))), float(low), float(high), len(both))


# What comparisons say about themselves --------------------------------------------------------------------------------


def _health(comparison: Comparison) -> dict[str, list[str]]:
    """Return verdict and reason by metric, unless there were no controls to tell by."""
    if not comparison.controls:
        return {}
    return {str(name): [str(row["verdict"]), str(row["reason"])] for name, row in comparison.health().iterrows()}


def _extent(values: Array) -> Interval:
    """Return the mean with the smallest and the largest value."""
    return Interval(float(values.mean()), float(values.min()), float(values.max()), len(values))


# Claims ---------------------------------------------------------------------------------------------------------------

_NETWORKS = {"efficientnet_lite0": "Lite0", "efficientnet_lite2": "Lite2"}
_EXACT = 1e-5  # of the range of the logits: single precision
_KEPT = 0.02


def findings(results: Results) -> tuple[Finding, ...]:
    """Return what decides each claim: as many as were measured."""
    return tuple(each for each in _all_findings() if _measured(each, results))


def _measured(finding: Finding, results: Results) -> bool:
    return finding.column in results.tables.get(finding.table, {}).get(finding.row, {})


def _all_findings() -> Iterator[Finding]:
    for network, short in _NETWORKS.items():
        conversion, table = network_table(network, "conversion"), network_table(network, "differences")
        words = f"{short}, difference over the range of the logits"
        yield Finding("same-logits", conversion, "logits", "difference", "same", _EXACT, words)
        for suffix, where in (("", ""), ("_earlier", ", layer before")):
            paper = PAPER + suffix
            rows = {
                "recipro-grad-adcc": (f"{paper} - grad_cam{suffix}", OF_MEANS, "ADCC of means"),
                "recipro-score-adcc": (f"{paper} - score_cam{suffix}", OF_MEANS, "ADCC of means"),
                "recipro-complexity": (f"{paper} - grad_cam{suffix}", "map_complexity", "complexity"),
            }
            for claim, (row, column, title) in rows.items():
                yield Finding(claim, table, row, column, words=f"{short}{where}, {title}")
            for mask, title in (("gaussian_spread", "of the first release"), ("gaussian", "1 2 1")):
                row = f"recipro_{mask}_softmax{suffix} - recipro_one_hot_softmax{suffix}"
                yield Finding("recipro-gaussian", table, row, OF_MEANS, words=f"{short}{where}, ADCC of means, mask {title}")
            row = f"score_cam{suffix} - {paper}"
            yield Finding("recipro-drop", table, row, "average_drop", words=f"{short}{where}, average drop")
        for metric, title in (("pointing_game", "pointing game"), (OF_MEANS, "ADCC of means")):
            row = "recipro_one_hot - grad_cam"
            yield Finding("recipro-is-cam", table, row, metric, "same", 5e-4, f"{short}, {title}, minus Grad-CAM")
        for metric, title in (("pointing_game", "pointing game"), ("relevance_mass_accuracy", "relevance mass")):
            for method in ("grad_cam", "recipro_gaussian", PAPER):
                words = f"{short}, {title}, {TITLES[method]}"
                yield Finding("beats-controls", table, f"{method} - {BELL}", metric, words=words)
        for other in ("occlusion", "integrated_gradients"):
            for metric, title in (("pointing_game", "pointing game"), ("deletion", "deletion"), ("insertion", "insertion")):
                words = f"{short}, {title}, minus {TITLES[other]}"
                yield Finding("conversion-competitive", table, f"soft_cam - {other}", metric, "kept", _KEPT, words)
