"""Try every method on a network of every family, compare with brute force, and write the table of what is right.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --library timm --networks "vit*" --log vit.jsonl

Every network has random weights and runs in a process of its own, for at most ``--seconds``. Results are kept in a file,
one line per network, so that an interrupted sweep goes on; delete it to start again. Takes about half an hour on one core,
and needs timm, transformers, monai with einops, and segmentation-models-pytorch. ``studies/reach.py`` runs the whole sweep,
keeps its results in the project, and writes this table and a page that sums it up.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from shared import table
from sweep_networks import blobs, build, design, networks
from torch import Tensor, nn

from captum_softcam import LayerClassActivationMap, LayerReciproCam, convert_to_softcam, suggest_layers
from captum_softcam.attr import LayerChoice
from captum_softcam.evaluation import LayerExplainFunc

POSITIONS = 8
"""Positions of a map that brute force computes, at most."""

PACKAGES = {"timm": "timm", "transformers": "transformers", "monai": "monai", "smp": "segmentation-models-pytorch"}
HEADER = ("network", "images", "layer", "grid", "Recipro-CAM", "Grad-CAM", "CAM", "SoftCAM")
STEPS = ("maps", "grad_cam", "cam", "softcam", "untouched")
OBSTACLES = {  # error messages of the library, in fewer words
    r"behind layer .* does more than pool \(([^)]*)\)": r"more than pooling (`\1`)",
    r"between pooling and scores stands ([^;]*);": r"a head with `\1`",
    r"single positions or tokens": "reads single tokens",
    r"from the logits, (.*?) is in the way": r"\1 behind the features",
    r"one position for inputs of any size": "reads single tokens",
    r"would not lie where the input is": "features without the places of the input",
    r"single positions: (.*?) answer otherwise": r"`\1` reads more than one position",
    r"cannot be traced by torch.fx .*": "control flow that torch.fx cannot trace",
    r"maps have as many dimensions": "a map of other dimensions than the images",
}


@dataclass
class Outcome:
    """How a step went: ``right``, ``refused`` in words, ``WRONG`` or ``crash``; with a figure where one was measured."""

    kind: str
    words: str = ""
    figure: float | None = None


@dataclass
class Result:
    """Everything that was tried on one network."""

    library: str
    name: str
    versions: str
    design: str = ""
    images: list[int] = field(default_factory=list)
    dtype: str = ""
    layer: str = ""
    grid: list[int] = field(default_factory=list)
    passes: int = 0
    seconds: float = 0.0
    steps: dict[str, Outcome] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The worst outcome of its steps."""
        kinds = {outcome.kind for outcome in self.steps.values()}
        return next((kind for kind in ("WRONG", "crash", "refused") if kind in kinds), "right")


def main() -> None:
    """Run the sweep and print or write its table."""
    options = _options()
    chosen = [
        (library, name)
        for library, name in networks()
        if options.library in (None, library) and fnmatch(name, options.networks)
    ]
    text = page(try_all(chosen, options.log, options.jobs, options.seconds))
    print(text) if options.out is None else options.out.write_text(text, encoding="utf-8")


def try_all(chosen: Sequence[tuple[str, str]], log: Path, jobs: int = 1, seconds: float = 600) -> list[Result]:
    """Return the results of networks, and try those that are not in a file of results, which then has them.

    Args:
        chosen (sequence): library and name of each network.
        log (Path): the file; results of other versions of the libraries do not count.
        jobs (int): networks at a time. Default: 1
        seconds (float): limit for one network. Default: 600
    """
    kept = [result for result in read(log) if result.versions == _versions(result.library)]
    known = {(result.library, result.name): result for result in kept}
    missing = [each for each in chosen if each not in known]
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda each: _in_a_process(*each, seconds), missing):
            known[result.library, result.name] = result
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
            print(_line(result), file=sys.stderr, flush=True)
    return [known[each] for each in chosen]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=PACKAGES, help="default: all")
    parser.add_argument("--networks", default="*", metavar="PATTERN", help="names, such as 'vit*' (default: all)")
    parser.add_argument("--out", type=Path, help="write the table to this file instead of printing it")
    parser.add_argument("--log", type=Path, default=Path("sweep.jsonl"), help="results so far (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=600, help="limit for one network (default: %(default)s)")
    return parser.parse_args()


def read(log: Path) -> list[Result]:
    """Return the results in a file that :func:`try_all` has written."""
    if not log.exists():
        return []
    rows = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    return [Result(**{**row, "steps": {name: Outcome(**each) for name, each in row["steps"].items()}}) for row in rows]


def _versions(library: str) -> str:
    return ", ".join(f"{package} {version(package)}" for package in ("torch", PACKAGES[library]))


def _in_a_process(library: str, name: str, seconds: float) -> Result:
    """Return the result of a network, also if its process runs too long or dies."""
    start = time.monotonic()
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    if sys.platform != "win32":
        context.set_forkserver_preload(["sweep", PACKAGES[library].replace("-", "_")])
    ours, theirs = context.Pipe()
    process = context.Process(target=_send, args=(theirs, library, name))
    process.start()
    theirs.close()
    try:
        result = ours.recv() if ours.poll(seconds) else _failed(library, name, f"not finished after {seconds:.0f} s")
    except EOFError:
        process.join()
        result = _failed(library, name, f"its process ended with code {process.exitcode}")
    process.kill()
    process.join()
    result.seconds = round(time.monotonic() - start, 1)
    return result


def _send(connection: Connection, library: str, name: str) -> None:
    torch.set_num_threads(1)
    connection.send(examine(library, name))


def _failed(library: str, name: str, words: str) -> Result:
    return Result(library, name, _versions(library), steps={"network": Outcome("crash", words)})


def examine(library: str, name: str) -> Result:
    """Build a network, try every method on it, and return what happened."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about how they draw their weights
        try:
            model, images = build(library, name)
        except Exception as error:  # of any library, and of any kind
            return _failed(library, name, f"not built: {_said(error)}")
        shape, dtype = list(images.shape[1:]), str(images.dtype).removeprefix("torch.")
        result = Result(library, name, _versions(library), design(model, images), shape, dtype)
        result.steps.update(examine_model(model, images, result))
    return result


def examine_model(model: nn.Module, images: Tensor, result: Result) -> dict[str, Outcome]:
    """Try every method on a model, write its layer into ``result``, and return how each step went."""
    with torch.no_grad():
        before, state = model(images), {name: value.clone() for name, value in model.state_dict().items()}
    steps: dict[str, Outcome] = {}

    def choose() -> Outcome:
        choice = next((choice for choice in suggest_layers(model, images) if choice.recommended), None)
        if choice is None:
            return Outcome("refused", "no layer has a map")
        result.layer, result.grid, result.passes = choice.name, list(choice.grid), choice.passes
        return _maps(model, images, before, choice)

    steps["maps"] = _tried(choose)
    if result.layer:
        layer = model.get_submodule(result.layer)
        steps["grad_cam"] = _tried(lambda: _grad_cam(model, images, result.layer))
        steps["cam"] = _tried(lambda: _cam(model, images, layer))
    steps["softcam"] = _tried(lambda: _softcam(model, images))
    steps["untouched"] = _untouched(model, images, before, state)
    return steps


def _tried(step: Callable[[], Outcome]) -> Outcome:
    try:
        return step()
    except (ValueError, TypeError) as error:  # as the library refuses
        return Outcome("refused", _said(error))
    except Exception as error:  # whatever a network makes of it
        return Outcome("crash", f"{type(error).__name__}: {_said(error)}")


def _said(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _targets(scores: Tensor) -> Tensor:
    return torch.tensor([min(3, scores.shape[1] - 1), scores.shape[1] - 1])


def _maps(model: nn.Module, images: Tensor, scores: Tensor, choice: LayerChoice) -> Outcome:
    """Compare the maps of Recipro-CAM with the scores of the model when a hook keeps one position at a time."""
    layer, targets = model.get_submodule(choice.name), _targets(scores)
    maps = LayerReciproCam(model, layer).attribute(images, target=targets)
    if maps.shape != (2, 1, *choice.grid):
        return Outcome("WRONG", f"maps {tuple(maps.shape)} of a grid {choice.grid}")
    places = _sample(math.prod(choice.grid))
    wanted = brute_force(model, layer, images, targets, choice.grid, places)
    spread, moved = float(wanted.std(1).mean()), float((maps.flatten(1)[:, places] - wanted).abs().max())
    if not spread > 1e-9 * float(wanted.abs().max()):
        return Outcome("WRONG", "every position has the same score")
    figure = moved / spread
    return Outcome("right" if figure < _tolerance(images) else "WRONG", "", figure)


def _sample(cells: int) -> Tensor:
    """Return positions that are spread over a map."""
    return torch.linspace(0, cells - 1, min(POSITIONS, cells)).round().long()


def _tolerance(values: Tensor) -> float:
    return 1e-6 if values.dtype == torch.float64 else 1e-2


@torch.no_grad()
def brute_force(
    model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor, grid: tuple[int, ...], places: Tensor
) -> Tensor:
    """Return the scores (N, P) of the whole model when the last call of a layer keeps one position of a grid.

    They are relative to the score when it keeps none.
    """
    calls = _calls(model, layer, images)
    columns = []
    for place in (None, *places.tolist()):
        left = calls

        def keep(_: nn.Module, __: Any, output: Tensor, place: int | None = place) -> Tensor | None:
            nonlocal left
            left -= 1
            return None if left else output * _mask(output, grid, place)

        with layer.register_forward_hook(keep):
            columns.append(model(images).gather(1, targets[:, None])[:, 0])
    return torch.stack(columns[1:], 1) - columns[0][:, None]


def _calls(model: nn.Module, layer: nn.Module, images: Tensor) -> int:
    calls: list[None] = []
    with layer.register_forward_hook(lambda *_: calls.append(None)):
        model(images)
    return len(calls)


def _mask(output: Tensor, grid: tuple[int, ...], place: int | None) -> Tensor:
    """Return a factor for the output of a layer: 0 for all positions but one or none, and 1 for the tokens before them."""
    cells, shape = math.prod(grid), tuple(output.shape)
    chosen = torch.zeros(cells, dtype=output.dtype)
    if place is not None:
        chosen[place] = 1
    if shape[2:] == grid:
        return chosen.view(grid)
    if shape[1:-1] == grid:
        return chosen.view(*grid, 1)
    tokens = next(axis for axis in (1, 2) if 0 <= shape[axis] - cells <= 8)
    row = torch.cat((torch.ones(shape[tokens] - cells, dtype=output.dtype), chosen))
    return row[:, None] if tokens == 1 else row


def _grad_cam(model: nn.Module, images: Tensor, layer: str) -> Outcome:
    targets = _targets(model(images).detach())
    maps = LayerExplainFunc("grad_cam", layer=layer).explain(model, images, targets)
    fits = maps.shape == (2, 1, *images.shape[2:]) and bool(maps.isfinite().all())
    return Outcome("right") if fits else Outcome("WRONG", f"maps {tuple(maps.shape)}, finite: {bool(maps.isfinite().all())}")


def _cam(model: nn.Module, images: Tensor, layer: nn.Module) -> Outcome:
    """Check that the means of the maps of CAM are the logits up to the bias, which is the same for all images."""
    targets = torch.full((2,), int(_targets(model(images).detach())[0]))
    maps = LayerClassActivationMap(model, layer).attribute(images, target=targets)
    with torch.no_grad():
        logits = model(images).gather(1, targets[:, None])[:, 0]
    bias = logits - maps.flatten(1).mean(1)
    figure = float((bias[0] - bias[1]).abs() / logits.abs().max())
    return Outcome("right" if figure < _tolerance(images) else "WRONG", "", figure)


@torch.no_grad()
def _softcam(model: nn.Module, images: Tensor) -> Outcome:
    """Compare the logits of a conversion with those of the model on unseen images, and with the means of the evidence."""
    converted = convert_to_softcam(model, images)
    unseen = blobs(2, images.shape[1], tuple(images.shape[2:]), seed=3).to(images)
    wanted, logits = model(unseen), converted(unseen)
    scale, mean = float(wanted.abs().max()), converted.evidence_maps(unseen).flatten(2).mean(2)
    figure = float((logits - wanted).abs().max()) / scale
    if not float((mean - logits).abs().max()) < _tolerance(images) * scale:
        return Outcome("WRONG", "the means of the evidence are not the logits", figure)
    if not converted.conversion.exact:
        return Outcome("right", f"other logits: {converted.conversion.reason}", figure)
    return Outcome("right" if figure < _tolerance(images) else "WRONG", "same logits", figure)


@torch.no_grad()
def _untouched(model: nn.Module, images: Tensor, before: Tensor, state: dict[str, Tensor]) -> Outcome:
    """Check that a model still has its weights and logits, is in eval mode and has no hooks."""
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, state[name])]
    hooked = [name for name, module in model.named_modules() if module._forward_hooks or module.training]
    same = torch.equal(model(images), before)
    return Outcome("right") if same and not changed + hooked else Outcome("WRONG", f"{changed[:3]}, {hooked[:3]}, {same}")


def _line(result: Result) -> str:
    steps = "; ".join(
        f"{name} {step.kind}{'' if step.figure is None else f' {step.figure:.0e}'} {step.words}".strip()
        for name, step in result.steps.items()
    )
    where = f"{result.layer} {'x'.join(map(str, result.grid))} {result.passes} passes"
    return f"{result.kind:7} {result.library}:{result.name} ({result.seconds:.0f} s) {result.images} {where} | {steps}"


def page(results: list[Result]) -> str:
    """Return counts and table in Markdown."""
    versions = ", ".join(dict.fromkeys(part for result in results for part in result.versions.split(", ")))
    return (
        "\n\n".join([f"Measured with {versions}.", _counts(results), table(HEADER, map(_row, results), "llllllll")]) + "\n"
    )


def _counts(results: list[Result]) -> str:
    rows = []
    for library in dict.fromkeys(result.library for result in results):
        ours = [result for result in results if result.library == library]
        rows.append((library, len(ours), *(_outcomes(ours, step) for step in STEPS)))
    return table(("library", "networks", "Recipro-CAM", "Grad-CAM", "CAM", "SoftCAM", "network untouched"), rows, "lrlllll")


def _outcomes(results: list[Result], step: str) -> str:
    outcomes = [result.steps[step] for result in results if step in result.steps]
    kinds = (each.words.partition(":")[0] if step == "softcam" and each.kind == "right" else each.kind for each in outcomes)
    return ", ".join(f"{number} {kind}" for kind, number in Counter(kinds).most_common())


def _row(result: Result) -> tuple[str, ...]:
    cells = [_cell(result.steps[step]) if step in result.steps else "" for step in STEPS[:-1]]
    grid, images = ("×".join(map(str, sides)) for sides in (result.grid, result.images))
    return (f"{result.library}/{result.name}", images, f"`{result.layer}`" if result.layer else "none", grid, *cells)


def _cell(outcome: Outcome) -> str:
    figure = "" if outcome.figure is None else f" {outcome.figure:.0e}"
    if outcome.kind == "refused":
        return f"no: {obstacle(outcome.words)}".replace("|", "\\|")
    return f"{outcome.words or outcome.kind}{figure}".replace("|", "\\|")


def obstacle(words: str) -> str:
    """Return the message of a refusal in fewer words."""
    found = ((re.search(pattern, words), short) for pattern, short in OBSTACLES.items())
    return next((match.expand(short) for match, short in found if match), words)


if __name__ == "__main__":
    main()
