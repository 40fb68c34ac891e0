"""Slow, literal versions of the methods: loops in float64 that share nothing with the package."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from scipy import stats
from torch import Tensor


def recipro_cam(
    features: Tensor,
    tail: Callable[[Tensor], Tensor],
    target: int,
    kernel: list[list[float]] | list[list[list[float]]] = ((1.0,),),
    spread: bool = False,
    relative: bool = True,
) -> Tensor:
    """Score of ``target`` when ``features`` (C, h, w) are kept around one position only, as the kernel weighs them.

    ``tail`` maps (1, C, h, w) to (1, K); the kernel is (kh, kw) or (C, kh, kw). With ``spread`` it is the features of the
    position itself that are spread. ``relative`` to the score of features that are all multiplied by 0.
    """
    channels, height, width = features.shape
    scores = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            copy = torch.zeros(1, channels, height, width, dtype=torch.float64)
            for c in range(channels):
                weights = kernel[c] if isinstance(kernel[0][0], list) else kernel
                for u, line in enumerate(weights):
                    for v, weight in enumerate(line):
                        y, x = i + u - len(weights) // 2, j + v - len(line) // 2
                        if 0 <= y < height and 0 <= x < width:
                            copy[0, c, y, x] = weight * (features[c, i, j] if spread else features[c, y, x])
            scores[i, j] = tail(copy)[0, target]
    return scores - tail(0 * features[None])[0, target] if relative else scores


GAUSSIAN = [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]]


def upsample(plane: list[list[float]], height: int, width: int, align_corners: bool) -> list[list[float]]:
    """Bilinear interpolation, with the centres of the pixels or of the corner pixels aligned."""

    def place(index: int, size: int, new: int) -> tuple[int, int, float]:
        centred = max((index + 0.5) * size / new - 0.5, 0.0)
        at = index * (size - 1) / (new - 1) if align_corners else centred
        low = min(int(at), size - 1)
        return low, min(low + 1, size - 1), at - low

    rows = []
    for i in range(height):
        top, bottom, down = place(i, len(plane), height)
        row = []
        for j in range(width):
            left, right, across = place(j, len(plane[0]), width)
            above = plane[top][left] * (1 - across) + plane[top][right] * across
            below = plane[bottom][left] * (1 - across) + plane[bottom][right] * across
            row.append(above * (1 - down) + below * down)
        rows.append(row)
    return rows


def score_cam(
    features: Tensor,
    image: Tensor,
    model: Callable[[Tensor], Tensor],
    target: int,
    *,
    channel_softmax: bool = True,
    scale_first: bool = False,
    align_corners: bool = False,
    baseline: float = 0.0,
) -> Tensor:
    """Score-CAM of an image (C', H, W) from features (C, h, w), channel by channel; flat channels take no part."""

    def scaled(plane: list[list[float]]) -> list[list[float]]:
        low, high = min(map(min, plane)), max(map(max, plane))
        return [[(cell - low) / (high - low) for cell in row] for row in plane]

    scores: dict[int, float] = {}
    for k, channel in enumerate(features.tolist()):
        if min(map(min, channel)) == max(map(max, channel)):
            continue
        plane = scaled(channel) if scale_first else channel
        plane = upsample(plane, image.shape[1], image.shape[2], align_corners)
        mask = torch.tensor(plane if scale_first else scaled(plane), dtype=torch.float64)
        scores[k] = float(model((image * mask)[None])[0, target]) - baseline
    weights = scores
    if channel_softmax:
        total = sum(math.exp(score) for score in scores.values())
        weights = {k: math.exp(score) / total for k, score in scores.items()}
    total_map = torch.zeros_like(features[0])
    for k, weight in weights.items():
        total_map = total_map + weight * features[k]
    return total_map.clamp(min=0)


def class_activation_map(features: Tensor, weight: Tensor, target: int) -> Tensor:
    """CAM: sum over channels of weight (K, C) times features (C, h, w)."""
    channels, height, width = features.shape
    maps = torch.zeros(height, width, dtype=torch.float64)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                maps[i, j] += weight[target, c] * features[c, i, j]
    return maps


def soft_cam(features: Tensor, weight: Tensor, bias: Tensor, target: int) -> Tensor:
    """Evidence of a linear head at every position: weight (K, C) times features (C, h, w) plus bias (K,)."""
    return class_activation_map(features, weight, target) + bias[target]


def elastic_net(evidence: Tensor, lambda_l1: float, lambda_l2: float) -> Tensor:
    """Penalty of each example of evidence (N, K, h, w), cell by cell."""
    penalties = []
    for example in evidence:
        penalty = 0.0
        for cell in example.flatten().tolist():
            penalty += lambda_l1 * abs(cell) + lambda_l2 * cell**2
        penalties.append(penalty)
    return torch.tensor(penalties, dtype=torch.float64)


def region_perturbation(drops: list[float]) -> float:
    """Area over the perturbation curve: the mean drop of the score, the untouched image (drop 0) included."""
    return sum([0.0, *drops]) / (len(drops) + 1)


def relevance_mass(attribution: list[float], mask: list[bool]) -> float:
    """Share of the positive attribution that lies within the mask."""
    inside = sum(max(a, 0.0) for a, m in zip(attribution, mask, strict=True) if m)
    return inside / sum(max(a, 0.0) for a in attribution)


def localisation_auc(attribution: list[float], mask: list[bool]) -> float:
    """Chance that a position of the mask is ranked above one outside it; ties count half."""
    inside = [a for a, m in zip(attribution, mask, strict=True) if m]
    outside = [a for a, m in zip(attribution, mask, strict=True) if not m]
    wins = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    return wins / (len(inside) * len(outside))


def evidence(model: Callable[[Tensor], Tensor], layer: torch.nn.Module, images: Tensor) -> Tensor:
    """Class evidence of a classifier that pools behind ``layer``: what it says of one position's features alone.

    The model is run once per position, and once for the features; (N, K, ...).
    """
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    model(images)
    handle.remove()
    grid = kept[0].shape[2:]
    columns = []
    for place in itertools.product(*map(range, grid)):
        one = kept[0][(..., *[slice(i, i + 1) for i in place])]
        handle = layer.register_forward_hook(lambda _module, _inputs, _output, one=one: one)
        columns.append(model(images))
        handle.remove()
    return torch.stack(columns, 2).reshape(*columns[0].shape, *grid)


def patch_order(values: list[list[float]], patches: int) -> list[tuple[int, int]]:
    """Patches of a map, the one with the greatest mean first, equal ones from the top left."""
    height, width = len(values), len(values[0])
    means = {}
    for a in range(patches):
        for b in range(patches):
            cells = [
                values[i][j]
                for i in range(height)
                for j in range(width)
                if i * patches // height == a and j * patches // width == b
            ]
            means[a, b] = sum(cells) / len(cells)
    return sorted(means, key=lambda place: -means[place])


def perturbation_curve(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    values: list[list[float]],
    target: int,
    baseline: Tensor,
    patches: int,
    steps: int,
    inserted: bool,
) -> list[float]:
    """Probability of the class while patches of one image (C, H, W) are taken away, or added to the baseline."""
    order = patch_order(values, patches)
    points = []
    for step in range(steps + 1):
        touched = order[: round(step * len(order) / steps)]
        shown = (baseline if inserted else image).clone()
        for i in range(image.shape[1]):
            for j in range(image.shape[2]):
                if (i * patches // image.shape[1], j * patches // image.shape[2]) in touched:
                    shown[:, i, j] = (image if inserted else baseline)[:, i, j]
        points.append(probability(model, shown, target))
    return points


def activation_scores(values: list[list[float]], mask: list[list[bool]]) -> tuple[float, float]:
    """Activation precision and sensitivity of one map."""
    positive = [max(v, 0.0) for row in values for v in row]
    low, high = min(positive), max(positive)
    scaled = [(v - low) / (high - low) for v in positive]
    inside = [m for row in mask for m in row]
    common = sum(s for s, m in zip(scaled, inside, strict=True) if m)
    return common / sum(scaled), common / sum(inside)


def _positions(size: list[int]) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, size)))


def pointing(values: Tensor, mask: Tensor, tolerance: float) -> float:
    """Share of the highest positions of a map (any number of dimensions) that have the mask within reach."""
    places = _positions(list(values.shape))
    peak = max(float(values[p]) for p in places)
    highest = [p for p in places if float(values[p]) == peak]
    hits = 0
    for p in highest:
        hits += any(math.dist(p, q) <= tolerance for q in places if bool(mask[q]))
    return hits / len(highest)


def top_share(values: list[float], mask: list[bool], count: int) -> float:
    """Share of the ``count`` highest values on the mask, the mean over every way to choose among equal ones."""
    last = sorted(values, reverse=True)[count - 1]
    sure = [i for i, v in enumerate(values) if v > last]
    equal = [i for i, v in enumerate(values) if v == last]
    choices = list(itertools.combinations(equal, count - len(sure)))
    shares = [sum(mask[i] for i in (*sure, *choice)) / count for choice in choices]
    return sum(shares) / len(shares)


def patch_top_share(values: list[list[float]], mask: list[list[bool]], patches: int, count: int) -> float:
    """The same for patches, each with its mean; a patch is on the mask if one of its positions is."""
    height, width = len(values), len(values[0])
    means, touching = [], []
    for a in range(patches):
        for b in range(patches):
            places = [
                (i, j)
                for i in range(height)
                for j in range(width)
                if i * patches // height == a and j * patches // width == b
            ]
            means.append(sum(values[i][j] for i, j in places) / len(places))
            touching.append(any(mask[i][j] for i, j in places))
    return top_share(means, touching, count)


def best_iou(values: list[float], mask: list[bool]) -> float:
    """Greatest intersection over union of the mask and what lies at or above a threshold, over all thresholds."""
    best = 0.0
    for threshold in values:
        both = sum(v >= threshold and m for v, m in zip(values, mask, strict=True))
        either = sum(v >= threshold or m for v, m in zip(values, mask, strict=True))
        best = max(best, both / either)
    return best


def gini(values: list[float]) -> float:
    """Half the mean absolute difference of all pairs of magnitudes, over their mean."""
    sizes = [abs(v) for v in values]
    differences = sum(abs(a - b) for a in sizes for b in sizes)
    return differences / len(sizes) ** 2 / 2 / (sum(sizes) / len(sizes))


def shown_shares(values: list[float]) -> list[float]:
    """S of the ADCC family: the positive part of a map, from 0 to 1."""
    positive = [v if v > 0 else 0.0 for v in values]
    return [(v - min(positive)) / (max(positive) - min(positive)) for v in positive]


def probability(model: Callable[[Tensor], Tensor], image: Tensor, target: int, kind: str = "softmax") -> float:
    """Score of the target in one image (C, ...), by the kind of scores."""
    return score(model(image[None])[0].tolist(), target, kind)


def score(outputs: list[float], target: int, kind: str) -> float:
    """Softmax of the outputs, sigmoid of one of them or of the only one and its complement, or the output itself."""
    if kind == "identity":
        return outputs[target]
    if kind == "softmax":
        return math.exp(outputs[target]) / sum(math.exp(v) for v in outputs)
    if len(outputs) == 1:
        yes = 1 / (1 + math.exp(-outputs[0]))
        return yes if target == 1 else 1 - yes
    return 1 / (1 + math.exp(-outputs[target]))


def masked_image(image: Tensor, values: Tensor) -> Tensor:
    """Image (C, ...) times the S of its map (...), position by position."""
    shares = shown_shares(values.flatten().tolist())
    shown = image.clone()
    for share, place in zip(shares, _positions(list(values.shape)), strict=True):
        for c in range(image.shape[0]):
            shown[(c, *place)] = image[(c, *place)] * share
    return shown


def average_drop(whole: float, masked: float) -> float:
    """Share of the probability that is lost."""
    return max(0.0, whole - masked) / whole


def coherency(values: list[float], masked_values: list[float]) -> float:
    """Pearson correlation of S of both maps, from 0 to 1."""
    one, other = shown_shares(values), shown_shares(masked_values)
    mean_one, mean_other = sum(one) / len(one), sum(other) / len(other)
    covariance = sum((a - mean_one) * (b - mean_other) for a, b in zip(one, other, strict=True))
    spread = math.sqrt(sum((a - mean_one) ** 2 for a in one) * sum((b - mean_other) ** 2 for b in other))
    return (1 + covariance / spread) / 2


def adcc(drop: float, coherency: float, complexity: float) -> float:
    """Harmonic mean of coherency, 1 - complexity and 1 - drop; 0 where one of them is."""
    parts = [coherency, 1 - complexity, 1 - drop]
    return 0.0 if 0.0 in parts else 3 / sum(1 / part for part in parts)


def pixel_curve(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    values: Tensor,
    target: int,
    baseline: Tensor,
    steps: int,
    inserted: bool,
    kind: str = "softmax",
) -> list[float]:
    """Score of the class while positions of one image (C, ...) are taken away, or added to the baseline."""
    places = sorted(_positions(list(values.shape)), key=lambda place: -float(values[place]))
    points = []
    for step in range(steps + 1):
        shown = (baseline if inserted else image).clone()
        for place in places[: round(step * len(places) / steps)]:
            for c in range(image.shape[0]):
                shown[(c, *place)] = (image if inserted else baseline)[(c, *place)]
        points.append(probability(model, shown, target, kind))
    return points


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian mean over the neighbourhood of every position of one channel, mirrored at the borders."""
    size = list(image.shape)
    radii = [min(math.ceil(3 * sigma), side - 1) for side in size]
    result = torch.zeros_like(image)
    for place in _positions(size):
        total, weights = 0.0, 0.0
        for offsets in itertools.product(*[range(-radius, radius + 1) for radius in radii]):
            seen = []
            for at, offset, side in zip(place, offsets, size, strict=True):
                index = abs(at + offset)
                seen.append(index if index < side else 2 * (side - 1) - index)
            weight = math.exp(-sum(offset**2 for offset in offsets) / (2 * sigma**2))
            total += weight * float(image[tuple(seen)])
            weights += weight
        result[place] = total / weights
    return result


def in_boxes(boxes: list[list[float]], size: list[int]) -> Tensor:
    """Whether the centre of each position lies in one of the boxes, x (along the last dimension) first."""
    mask = torch.zeros(size, dtype=torch.bool)
    for place in _positions(size):
        for box in boxes:
            lower, upper = box[: len(size)], box[len(size) :]
            centre = [index + 0.5 for index in reversed(place)]
            mask[place] |= all(a <= c < b for a, c, b in zip(lower, centre, upper, strict=True))
    return mask


def trapezoids(points: list[float], places: list[float]) -> float:
    """Area under a curve."""
    area = 0.0
    for i in range(1, len(points)):
        area += (points[i] + points[i - 1]) / 2 * (places[i] - places[i - 1])
    return area


def patch_of(place: tuple[int, ...], size: list[int], patches: int) -> tuple[int, ...]:
    """The patch that a position belongs to, of as many per side."""
    return tuple(index * patches // side for index, side in zip(place, size, strict=True))


def without_patches(image: Tensor, baseline: Tensor, taken: set[tuple[int, ...]], patches: int) -> Tensor:
    """One image (C, ...) with the baseline in the place of some of its patches."""
    size = list(image.shape[1:])
    shown = image.clone()
    for place in _positions(size):
        if patch_of(place, size, patches) in taken:
            for c in range(image.shape[0]):
                shown[(c, *place)] = baseline[(c, *place)]
    return shown


def fall_and_sum(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    values: Tensor,
    target: int,
    baseline: Tensor,
    taken: set[tuple[int, ...]],
    patches: int,
) -> tuple[float, float]:
    """How far the target's logit falls without some patches of one image (C, ...), and the sum of its map (...) there."""
    size = list(values.shape)
    shown = without_patches(image, baseline, taken, patches)
    fall = float(model(image[None])[0, target]) - float(model(shown[None])[0, target])
    total = sum(float(values[place]) for place in _positions(size) if patch_of(place, size, patches) in taken)
    return fall, total


def pearson(first: list[float], second: list[float]) -> float:
    """Covariance over the product of the standard deviations."""
    a, b = sum(first) / len(first), sum(second) / len(second)
    covariance = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    return covariance / math.sqrt(sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second))


def spearman(first: list[float], second: list[float]) -> float:
    """Pearson correlation of the ranks; equal values share the mean of theirs."""

    def ranks(values: list[float]) -> list[float]:
        return [sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]

    return pearson(ranks(first), ranks(second))


def infidelity(falls: list[float], sums: list[float], scaled: bool) -> float:
    """Mean squared difference, the sums times the factor >= 0 that makes it least; found by halving an interval."""

    def loss(factor: float) -> float:
        return sum((factor * s - f) ** 2 for f, s in zip(falls, sums, strict=True)) / len(falls)

    if not scaled:
        return loss(1.0)
    low, high = 0.0, 1e6
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return loss(low)


def imputed(image: Tensor, removed: Tensor) -> Tensor:
    """Removed positions (...) of one image (C, ...) as the weighted mean of their neighbours, all equations solved at once.

    A neighbour weighs 1 over the number of coordinates in which it is another: the paper's 1/6 and 1/12 in two dimensions.
    """
    places = _positions(list(removed.shape))
    result = image.clone()
    for c in range(image.shape[0]):
        matrix = torch.zeros(len(places), len(places), dtype=torch.float64)
        right = torch.zeros(len(places), dtype=torch.float64)
        for i, p in enumerate(places):
            if not bool(removed[p]):
                matrix[i, i] = 1
                right[i] = image[(c, *p)]
                continue
            for j, q in enumerate(places):
                steps = [abs(a - b) for a, b in zip(p, q, strict=True)]
                if max(steps) == 1:
                    matrix[i, i] += 1 / sum(steps)
                    matrix[i, j] -= 1 / sum(steps)
        solution = torch.linalg.solve(matrix, right)
        for i, p in enumerate(places):
            result[(c, *p)] = solution[i]
    return result


def irof(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    values: Tensor,
    target: int,
    baseline: Tensor,
    segments: Tensor,
    steps: int,
    kind: str = "softmax",
) -> float:
    """Area over the curve of the probability, in shares of the first, while segments of one image (C, ...) go."""
    places = _positions(list(values.shape))
    numbers = sorted({int(segments[p]) for p in places})
    means = {}
    for number in numbers:
        inside = [float(values[p]) for p in places if int(segments[p]) == number]
        means[number] = sum(inside) / len(inside)
    order = sorted(numbers, key=lambda number: -means[number])
    shares, points = [], []
    for step in range(steps + 1):
        taken = order[: step * len(order) // steps]
        shown = image.clone()
        for p in places:
            if int(segments[p]) in taken:
                for c in range(image.shape[0]):
                    shown[(c, *p)] = baseline[(c, *p)]
        shares.append(len(taken) / len(order))
        points.append(probability(model, shown, target, kind))
    return 1 - trapezoids([point / points[0] for point in points], shares)


def resampled_means(values: list[float]) -> list[float]:
    """The means of the defined values in every possible resample of a few values, in ascending order."""
    means = []
    for drawn in itertools.product(values, repeat=len(values)):
        total, count = 0.0, 0
        for value in drawn:
            if not math.isnan(value):
                total, count = total + value, count + 1
        if count:
            means.append(total / count)
    return sorted(means)


def resampled_image_means(values: list[float], images: list[str]) -> list[float]:
    """The means of the defined values of every possible resample of a few images, each with all its values, ascending."""
    of_image = {name: [v for v, other in zip(values, images, strict=True) if other == name] for name in images}
    means = []
    for drawn in itertools.product(of_image, repeat=len(of_image)):
        together = [value for name in drawn for value in of_image[name] if not math.isnan(value)]
        if together:
            means.append(sum(together) / len(together))
    return sorted(means)


def mean_of_drawn_images(values: list[float], images: list[str], drawn: list[int]) -> float:
    """The mean of the defined values of the images with these places, in order of first appearance; NaN without any."""
    names = list(dict.fromkeys(images))
    together = [
        value
        for place in drawn
        for value, name in zip(values, images, strict=True)
        if name == names[place] and not math.isnan(value)
    ]
    return sum(together) / len(together) if together else math.nan


def area_and_precision(scores: list[float], shown: list[bool]) -> tuple[float, float]:
    """Area under the ROC curve, over all pairs, and average precision, threshold by threshold."""
    inside = [s for s, member in zip(scores, shown, strict=True) if member]
    outside = [s for s, member in zip(scores, shown, strict=True) if not member]
    won = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside)
    area = won / (len(inside) * len(outside)) if inside and outside else math.nan
    precision, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        hits = sum(s >= threshold for s in inside)
        alarms = sum(s >= threshold for s in outside)
        if inside:
            precision += (hits / len(inside) - recall) * hits / (hits + alarms)
            recall = hits / len(inside)
    return area, precision if inside else math.nan


def paired_difference(scores: list[float], baseline: list[float], higher_is_better: bool) -> tuple[float, float, int]:
    """Mean difference, share of wins (a tie is half a win) and number of the pairs where both are defined."""
    total, wins, count = 0.0, 0.0, 0
    for ours, theirs in zip(scores, baseline, strict=True):
        if math.isnan(ours) or math.isnan(theirs):
            continue
        total, count = total + ours - theirs, count + 1
        if ours == theirs:
            wins += 0.5
        elif (ours > theirs) == higher_is_better:
            wins += 1
    return total / count, wins / count, count


def sign_flip_p_value(differences: list[float], images: list[str]) -> float:
    """The fraction of all ways to flip the signs of images that move the mean as far from 0 as it is, or farther."""
    names = list(dict.fromkeys(images))
    pairs = [(value, name) for value, name in zip(differences, images, strict=True) if not math.isnan(value)]
    observed = abs(sum(value for value, _ in pairs) / len(pairs))
    far = 0
    for signs in itertools.product((1, -1), repeat=len(names)):
        flipped = sum(value * signs[names.index(name)] for value, name in pairs) / len(pairs)
        far += abs(flipped) >= observed - 1e-9
    return far / 2 ** len(names)


def holm(p_values: list[float]) -> list[float]:
    """The smallest level at which Holm's procedure, which goes from the smallest p-value until it stops, rejects each."""
    levels = []
    for own in p_values:
        level = 0.0
        for place, other in enumerate(sorted(p_values)):
            if other <= own:
                level = max(level, other * (len(p_values) - place))
        levels.append(min(1.0, level))
    return levels


def rank(values: list[float], index: int, higher_is_better: bool) -> float:
    """The rank of one of the values, 1 for the best; equal values share the mean of their places."""
    better, equal = 0, 0
    for value in values:
        if value == values[index]:
            equal += 1
        elif (value > values[index]) == higher_is_better and not math.isnan(value):
            better += 1
    return better + (equal + 1) / 2


def edge_magnitude(image: Tensor) -> Tensor:
    """Slope of the mean of the channels of one image (C, ...), by Sobel's filters in all dimensions; the border repeats."""
    size = list(image.shape[1:])
    result = torch.zeros(size, dtype=torch.float64)
    for place in _positions(size):
        squares = 0.0
        for along in range(len(size)):
            slope = 0.0
            for offsets in itertools.product((-1, 0, 1), repeat=len(size)):
                weight = 1.0
                for d, offset in enumerate(offsets):
                    weight *= offset / 2 if d == along else (2 - abs(offset)) / 4
                seen = [min(max(at + o, 0), side - 1) for at, o, side in zip(place, offsets, size, strict=True)]
                mean = sum(float(image[(c, *seen)]) for c in range(image.shape[0])) / image.shape[0]
                slope += weight * mean
            squares += slope**2
        result[place] = math.sqrt(squares)
    return result


def kept_alone(model: Callable[..., Tensor], layer: torch.nn.Module, inputs: tuple[Tensor, ...], target: int) -> Tensor:
    """Score of ``target`` for one example (1, ...) when a hook keeps one position of the layer's output (1, C, h, w).

    It is relative to the score when the hook keeps none. The whole model runs once per position and once more, on the
    example alone; of several calls of the layer the last one is masked.
    """
    shape: list[torch.Size] = []
    counting = layer.register_forward_hook(lambda _layer, _args, output: shape.append(output.shape))
    model(*inputs)
    counting.remove()
    height, width = shape[-1][2:]
    places = [None, *itertools.product(range(height), range(width))]
    scores = []
    for place in places:
        seen = []

        def keep(_layer, _args, output, place=place, seen=seen):
            seen.append(0)
            if len(seen) < len(shape):
                return output
            kept = torch.zeros_like(output)
            if place is not None:
                kept[:, :, place[0], place[1]] = output[:, :, place[0], place[1]]
            return kept

        hook = layer.register_forward_hook(keep)
        scores.append(model(*inputs).reshape(1, -1)[0, target])
        hook.remove()
    none, *kept_scores = torch.stack(scores).double()
    return (torch.stack(kept_scores) - none).view(height, width)


def antialiased(image: Tensor, lengths: tuple[int, ...], cubic: bool) -> Tensor:
    """Resize ``image`` (C, ...) axis by axis as Pillow: outputs are means of inputs, weighted by a wide hat or cubic."""

    def weight(x: float) -> float:
        x = abs(x)
        if not cubic:
            return max(0.0, 1 - x)
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    values = image.double()
    for axis, length in enumerate(lengths, 1):
        lines = values.movedim(axis, 0)
        step = len(lines) / length
        wide = max(step, 1.0)
        found = torch.zeros(length, *lines.shape[1:], dtype=torch.float64)
        for i in range(length):
            weights = [weight((j + 0.5 - (i + 0.5) * step) / wide) for j in range(len(lines))]
            for j, each in enumerate(weights):
                found[i] += each / sum(weights) * lines[j]
        values = found.movedim(0, axis)
    return values


# Robustness ---------------------------------------------------------------------------------------------------------


def noisy(image: Tensor, draws: Tensor, radius: float) -> list[Tensor]:
    """The versions of ``image`` (C, ...) under ``draws`` (R, C, ...) in [-1, 1], the last one the strongest."""
    versions = []
    for r, draw in enumerate(draws, 1):
        version = image.clone()
        for c, channel in enumerate(image):
            values = channel.flatten().tolist()
            mean = sum(values) / len(values)
            spread = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
            version[c] += r / len(draws) * radius * spread * draw[c]
        versions.append(version)
    return versions


def _change(values: list[float], others: list[float]) -> float:
    distance = math.sqrt(sum((b - a) ** 2 for a, b in zip(values, others, strict=True)))
    return distance / math.sqrt(sum(a**2 for a in values))


def sensitivities(values: list[float], noisy_values: list[list[float]]) -> tuple[float, float]:
    """Largest and mean relative change of a map."""
    changes = [_change(values, others) for others in noisy_values]
    return max(changes), sum(changes) / len(changes)


def _contrast_change(image: Tensor, version: Tensor) -> float:
    squares = []
    for channel, other in zip(image, version, strict=True):
        values, others = channel.flatten().tolist(), other.flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        squares += [(b - a) ** 2 / variance for a, b in zip(values, others, strict=True)]
    return math.sqrt(sum(squares) / len(squares))


def lipschitz(values: list[float], noisy_values: list[list[float]], image: Tensor, versions: list[Tensor]) -> float:
    """Largest ratio of the relative changes of map and image."""
    pairs = zip(noisy_values, versions, strict=True)
    return max(_change(values, others) / _contrast_change(image, version) for others, version in pairs)


def input_stability(
    values: list[float], noisy_values: list[list[float]], image: Tensor, versions: list[Tensor], same: list[bool]
) -> float:
    """Largest ratio of the changes of values and image, of the versions with the same prediction."""
    floor = sum(abs(a) for a in values) / len(values)
    ratios = []
    for others, version, kept in zip(noisy_values, versions, same, strict=True):
        if kept:
            squares = [((b - a) / max(abs(a), floor)) ** 2 for a, b in zip(values, others, strict=True)]
            ratios.append(math.sqrt(sum(squares) / len(squares)) / _contrast_change(image, version))
    return max(ratios) if ratios else math.nan


def translated(image: Tensor, offset: tuple[int, ...]) -> Tensor:
    """``image`` (C, ...) moved by ``offset``, mirrored at its borders without repeating them."""
    size, moved = list(image.shape[1:]), image.clone()
    for place in _positions(size):
        source = []
        for p, by, side in zip(place, offset, size, strict=True):
            q = p - by
            q = -q if q < 0 else q
            source.append(2 * (side - 1) - q if q > side - 1 else q)
        moved[(slice(None), *place)] = image[(slice(None), *source)]
    return moved


def continuity(values: Tensor, shifted: list[Tensor], offsets: list[tuple[int, ...]]) -> float:
    """Mean over the shifts of how far a map (...) has moved along."""
    found = []
    for moved, offset in zip(shifted, offsets, strict=True):
        along = stayed = 0.0
        for place in _positions(list(values.shape)):
            source = tuple(p - by for p, by in zip(place, offset, strict=True))
            if all(0 <= q < side for q, side in zip(source, values.shape, strict=True)):
                along += float(moved[place] - values[source]) ** 2
                stayed += float(moved[place] - values[place]) ** 2
        found.append(math.sqrt(stayed) / (math.sqrt(stayed) + math.sqrt(along)))
    return sum(found) / len(found)


# Randomisation ------------------------------------------------------------------------------------------------------


# Axioms -------------------------------------------------------------------------------------------------------------


def completeness(values: list[float], output: float, empty: float, total: str) -> float:
    """Error of the sum or the mean of a map, whichever is smaller if ``total`` is "either"."""
    errors = {"sum": abs(sum(values) - (output - empty)), "mean": abs(sum(values) / len(values) - output)}
    return errors[total] if total in errors else min(errors.values())


def flip_symmetry(values: Tensor, mirrored: Tensor) -> float:
    """How far the map of the mirrored image is the mirrored map."""
    along = stayed = 0.0
    for place in _positions(list(values.shape)):
        opposite = (*place[:-1], values.shape[-1] - 1 - place[-1])
        along += float(mirrored[place] - values[opposite]) ** 2
        stayed += float(mirrored[place] - values[place]) ** 2
    return math.sqrt(stayed) / (math.sqrt(stayed) + math.sqrt(along))


def insensitivity(means: list[float], logits: list[float], without: list[list[float]], tolerance: float) -> float:
    """Mean magnitude of the ignored patches by the mean of all; ``without`` are the logits without each patch."""
    changes = [max(abs(b - a) for a, b in zip(logits, each, strict=True)) for each in without]
    ignored = [abs(m) for m, change in zip(means, changes, strict=True) if change <= tolerance * max(changes)]
    if not ignored or len(ignored) == len(means):
        return math.nan
    return sum(ignored) / len(ignored) / (sum(abs(m) for m in means) / len(means))


# Complexity ---------------------------------------------------------------------------------------------------------


def entropy(values: list[float]) -> float:
    """Entropy of the magnitudes, in nats."""
    total = sum(abs(v) for v in values)
    return -sum(abs(v) / total * math.log(abs(v) / total) for v in values if v)


def effective_complexity(curve: list[float], fractions: list[float], tolerance: float) -> float:
    """First fraction at which an insertion curve is as high as its end."""
    for point, fraction in zip(curve, fractions, strict=True):
        if point >= (1 - tolerance) * curve[-1]:
            return fraction
    raise AssertionError("the end is as high as itself")


# Mosaics ------------------------------------------------------------------------------------------------------------


# Baselines ----------------------------------------------------------------------------------------------------------


def imputed_in_cells(image: Tensor, removed: Tensor, cell: int) -> Tensor:
    """ROAD's imputation of an image (C, H, W) on cells, of which the kept positions are averaged, and interpolated.

    Sides are multiples of the cell. An image of which nothing is left becomes its mean colour.
    """
    channels, height, width = image.shape
    rows, columns = height // cell, width // cell
    means = torch.zeros(channels, rows, columns, dtype=torch.float64)
    holes = torch.zeros(rows, columns, dtype=torch.bool)
    for row in range(rows):
        for column in range(columns):
            inside = [(y, x) for y in range(row * cell, (row + 1) * cell) for x in range(column * cell, (column + 1) * cell)]
            kept = [(y, x) for y, x in inside if not removed[y, x]]
            holes[row, column] = not kept
            for channel in range(channels if kept else 0):
                means[channel, row, column] = sum(float(image[channel, y, x]) for y, x in kept) / len(kept)
    if holes.all():
        return image.double().mean((1, 2), keepdim=True).expand(image.shape)
    solved = imputed(means, holes)
    smooth = torch.tensor([upsample(plane, height, width, False) for plane in solved.tolist()], dtype=torch.float64)
    return torch.where(removed, smooth, image.double())


def arcc(gap: float, coherency: float, complexity: float) -> float:
    """Harmonic mean of the gap between two ROAD curves, cut off at 0, coherency and 1 - complexity; 0 where one is."""
    parts = [min(1.0, max(0.0, gap)), coherency, 1 - complexity]
    return 0.0 if 0.0 in parts else 3 / sum(1 / part for part in parts)


def kendall(first: list[float], second: list[float]) -> float:
    """Kendall's tau-b: pairs in the same order less those in the opposite one, over those that are not tied."""
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    one = [(first[i] > first[j]) - (first[i] < first[j]) for i, j in pairs]
    other = [(second[i] > second[j]) - (second[i] < second[j]) for i, j in pairs]
    size = math.sqrt(sum(map(abs, one)) * sum(map(abs, other)))
    return sum(a * b for a, b in zip(one, other, strict=True)) / size if size else math.nan


# Health of metrics --------------------------------------------------------------------------------------------------


def kendall_tau(one: list[float], other: list[float]) -> float:
    """Tau-b: concordant minus discordant pairs, over the geometric mean of the pairs that each ranks."""
    both = [(x, y) for x, y in zip(one, other, strict=True) if not (math.isnan(x) or math.isnan(y))]
    balance, ranked_one, ranked_other = 0, 0, 0
    for i in range(len(both)):
        for j in range(i):
            x, y = both[i][0] - both[j][0], both[i][1] - both[j][1]
            balance += (x * y > 0) - (x * y < 0)
            ranked_one += x != 0
            ranked_other += y != 0
    return balance / math.sqrt(ranked_one * ranked_other) if ranked_one and ranked_other else math.nan


def ordinal_alpha(scores: list[list[list[float]]]) -> float:
    """Krippendorff's alpha of ranks within samples: 1 - observed / expected disagreement of pairs of values."""
    units = []
    for sample in scores:
        raters = [[row[k] for row in sample] for k in range(len(sample[0]))]
        raters = [column for column in raters if not any(map(math.isnan, column))]
        for m in range(len(sample)):
            units.append([rank(column, m, True) for column in raters])
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    grades = sorted(set(values))

    def apart(x: float, y: float) -> float:
        low, high = min(x, y), max(x, y)
        between = sum(values.count(grade) for grade in grades if low <= grade <= high)
        return (between - (values.count(x) + values.count(y)) / 2) ** 2 if x != y else 0.0

    observed = sum(sum(apart(x, y) for x in unit for y in unit) / (len(unit) - 1) for unit in units) / len(values)
    expected = sum(apart(x, y) for x in values for y in values) / (len(values) * (len(values) - 1))
    return 1 - observed / expected


def wilcoxon_p(differences: list[float]) -> float:
    """The exact two-sided p-value of the signed-rank test, over all signs; without ties or zeros."""
    sizes = sorted(map(abs, differences))
    ranks = [sizes.index(abs(each)) + 1 for each in differences]
    positive = sum(r for r, each in zip(ranks, differences, strict=True) if each > 0)
    middle = sum(ranks) / 2
    sums = [
        sum(r for r, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product([0, 1], repeat=len(ranks))
    ]
    return sum(abs(each - middle) >= abs(positive - middle) for each in sums) / len(sums)


# Several models -----------------------------------------------------------------------------------------------------


def model_interval(values: list[list[float]], draws: int = 1000) -> tuple[float, float, float]:
    """Draw models and images of M lists of G scores one by one, and widen by Student's quantile; NaN is left out."""
    random = Random(1)
    models, images = range(len(values)), range(len(values[0]))

    def mean(numbers: Any) -> float:
        defined = [number for number in numbers if number == number]
        return sum(defined) / len(defined) if defined else math.nan

    means = [mean(row) for row in values]
    centre = mean(means)
    moved_by_models, moved_by_images = [], []
    for _ in range(draws):
        some = random.choices(images, k=len(images))
        moved_by_images.append(mean(mean(values[m][i] for i in some) for m in models) - centre)
        moved_by_models.append(mean(means[random.choice(models)] for _ in models[1:]) - centre)
    of_models = sum((each - centre) ** 2 for each in means) / (len(models) - 1) / len(models)
    of_images = mean(moved**2 for moved in moved_by_images)
    freedom = (of_models + of_images) ** 2 / (of_models**2 / (len(models) - 1))
    wider = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    moved = sorted(wider * (a + b) for a, b in zip(moved_by_models, moved_by_images, strict=True))
    return centre, centre + moved[round(0.025 * draws)], centre + moved[round(0.975 * draws)]


def structural_similarity(first: list[list[float]], second: list[list[float]]) -> float:
    """Mean over the windows of 11 x 11 within two planes, each scaled to [0, 1] (Wang et al., 2004)."""

    def scaled(plane: list[list[float]]) -> list[list[float]]:
        low, high = min(map(min, plane)), max(map(max, plane))
        return [[(value - low) / (high - low) for value in row] for row in plane]

    first, second = scaled(first), scaled(second)
    weights = {(u, v): math.exp(-(u * u + v * v) / (2 * 1.5**2)) for u in range(-5, 6) for v in range(-5, 6)}
    total = sum(weights.values())
    scores = []
    for i in range(5, len(first) - 5):
        for j in range(5, len(first[0]) - 5):
            window = [(w / total, first[i + u][j + v], second[i + u][j + v]) for (u, v), w in weights.items()]
            a, b = sum(w * x for w, x, _ in window), sum(w * y for w, _, y in window)
            spread_a = sum(w * (x - a) ** 2 for w, x, _ in window)
            spread_b = sum(w * (y - b) ** 2 for w, _, y in window)
            together = sum(w * (x - a) * (y - b) for w, x, y in window)
            alike = (2 * a * b + 0.01**2) * (2 * together + 0.03**2)
            scores.append(alike / ((a * a + b * b + 0.01**2) * (spread_a + spread_b + 0.03**2)))
    return sum(scores) / len(scores)


def mosaic(image: Tensor, others: list[Tensor], cell: int) -> Tensor:
    """An image (C, H, W) of even sides in one quadrant and others in the rest, each by the means of 2 x 2 positions."""
    shown = [*others[:cell], image, *others[cell:]]
    height, width = image.shape[1] // 2, image.shape[2] // 2
    made = torch.zeros_like(image)
    for c in range(image.shape[0]):
        for i in range(image.shape[1]):
            for j in range(image.shape[2]):
                tile = shown[2 * (i // height) + j // width]
                y, x = 2 * (i % height), 2 * (j % width)
                made[c, i, j] = sum(float(tile[c, y + a, x + b]) for a in (0, 1) for b in (0, 1)) / 4
    return made


def grid_pointing(values: list[list[float]], cell: int) -> float:
    """Share of the positive values that lies in a quadrant of a plane of even sides."""
    height, width = len(values) // 2, len(values[0]) // 2
    inside = whole = 0.0
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            whole += max(value, 0.0)
            inside += max(value, 0.0) * (2 * (i // height) + j // width == cell)
    return inside / whole
