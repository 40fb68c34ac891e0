"""Measure what attribution methods cost beside a plain forward of the same photographs: ours and those of other packages.

Every method of a table runs once per round, in random order, so that other work of the machine slows all of them alike;
the medians are compared. FLOPs and memory are those of one run in a process of its own. Nothing is asserted.

    python benchmarks/attribution.py --threads 1   # measure, keep studies/results/attribution.json, write the page
    python benchmarks/attribution.py --page        # write the page from what is kept
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import statistics
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from contenders import AGAIN, CONTENDERS, FORWARD, NETWORKS, Contender, Run, photographs
from shared import table, timing_options
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "studies" / "results" / "attribution.json"
PAGE = ROOT / "docs" / "reference" / "costs_measured.md"
PACKAGES = ("torch", "captum", "torchcam", "grad-cam")
PRELOADED = (
    "captum_softcam.softcam",
    "captum.attr",
    "pytorch_grad_cam",
    "skimage.data",
    "timm",
    "torchcam.methods",
    "torchvision",
)
SLOWER = 1.02  # a ratio above which a peer is named as faster: within the noise, rather one too many than one left out
Row = dict[str, Any]


class FlopCounter(TorchDispatchMode):
    """Counts the floating-point operations of matrix products and convolutions by the formulas of PyTorch.

    Not PyTorch's FlopCounterMode: it fails where gradients of an input are asked for, and counts the backward pass of a
    grouped convolution as if it had one group.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's own
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution_backward.default:
            self.total += _convolution_backward(*args)
        elif func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def _convolution_backward(gradient: Tensor, _images: Tensor, weight: Tensor, *others: Any) -> int:
    """Return the operations of the gradients that are asked for; each takes as many as the convolution itself."""
    of_input, of_weight, _of_bias = others[-1]
    return 2 * gradient.numel() * weight[0].numel() * (of_input + of_weight)


def timed(runs: Mapping[str, Run], rounds: int, device: str, rare: Collection[str] = ()) -> dict[str, list[float]]:
    """Time each run in each round, in random order, and those that are rare in the first round alone.

    On a CPU the time is that of the processor, in which the work of other processes does not count.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        chosen = [name for name in runs if number == 0 or name not in rare]
        for name in random.sample(chosen, len(chosen)):
            _synchronise(device)
            start = clock()
            runs[name]()
            _synchronise(device)
            seconds[name].append(clock() - start)
    return seconds


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def alone(network: str, contender: int, options: argparse.Namespace) -> Row:
    """Run one contender once in this process; return its FLOPs and peak memory, or the error by which it refuses."""
    _settle(options)
    torch.backends.mha.set_fastpath_enabled(False)  # one operation without a formula; a forward takes as many without it
    try:
        run = _built(CONTENDERS[contender], network, options)
        with FlopCounter() as counter:
            run()
    except Exception as error:  # of any kind: what a package raises for a model that it cannot explain
        return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    return {"flops": counter.total, "peak": _peak(options.device)}


def _settle(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")


def _built(contender: Contender, network: str, options: argparse.Namespace) -> Run:
    images, _ = photographs(options.data, options.photographs)
    return contender.build(NETWORKS[network]().copied(options.device), images.to(options.device))


def _peak(device: str) -> int:
    """Return the peak memory in MiB: that which torch allocated on a GPU, or that of the process as Linux reports it."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() // 2**20
    # Not getrusage: after a fork its peak is that of the parent.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) // 1024


def measured(network: str, options: argparse.Namespace) -> Row:
    """Measure all contenders on one network."""
    rows: dict[str, Row] = {}
    refused: dict[str, str] = {}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with context.Pool(1, maxtasksperchild=1) as pool:
        for number, contender in enumerate(CONTENDERS):
            if contender.slow and network not in options.slow:
                continue
            found = pool.apply(alone, (network, number, options))
            if "refused" in found:
                refused[contender.name] = found["refused"]
            else:
                rows[contender.name] = {**found, "name": contender.name, "job": contender.job, "package": contender.package}
            print(f"{network}, {contender.name}: {found}", flush=True)
    runs = {each.name: _built(each, network, options) for each in CONTENDERS if each.name in rows}
    slow = {each.name for each in CONTENDERS if each.slow}
    timed({name: run for name, run in runs.items() if name not in slow}, 1, options.device)  # to warm up
    for name, seconds in timed(runs, options.rounds, options.device, slow).items():
        rows[name]["seconds"] = seconds
    made = NETWORKS[network]()
    layers = {name: getattr(made, name) for name in ("layer", "earlier", "narrow")}
    return {"title": made.title, **layers, "slow": network in options.slow, "rows": list(rows.values()), "refused": refused}


def measure_all(options: argparse.Namespace) -> None:
    """Measure on each network, and keep it beside those that were kept before."""
    _settle(options)
    random.seed(0)
    for name in options.only:
        found = measured(name, options) | _circumstances(options)
        kept = json.loads(options.kept.read_text(encoding="utf-8")) if options.kept.exists() else {}
        kept = {each: (kept | {name: found})[each] for each in NETWORKS if each in kept or each == name}
        options.kept.parent.mkdir(parents=True, exist_ok=True)
        options.kept.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _circumstances(options: argparse.Namespace) -> Row:
    _, source = photographs(options.data, options.photographs)
    settings = {"threads": options.threads, "rounds": options.rounds, "photographs": options.photographs, "source": source}
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {"processor": _processor(options.device), "device": options.device, **settings, "versions": versions}


def _processor(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")


# The page -------------------------------------------------------------------------------------------------------------


def page(kept: Mapping[str, Row]) -> str:
    """Write the page: first where a peer is faster, then a table per network."""
    return "\n\n".join([slower(kept), noise(kept), *(section(each) for each in kept.values())]) + "\n"


def noise(kept: Mapping[str, Row]) -> str:
    """Say how far two measurements of the same forward are apart."""
    ratios = [
        statistics.median(row["seconds"]) / statistics.median(_forward(network)["seconds"])
        for network in kept.values()
        for row in network["rows"]
        if row["name"] == AGAIN.name
    ]
    apart = max(abs(ratio - 1) for ratio in ratios)
    return (
        f"*{AGAIN.name.capitalize()}* is the first row again: it differs by up to {apart:.0%}, as other ratios do by chance."
    )


def _forward(network: Row) -> Row:
    return next(row for row in network["rows"] if row["name"] == FORWARD.name)


def slower(kept: Mapping[str, Row]) -> str:
    """Say where a method of ours takes longer than that of a peer for the same job, and where not."""
    longer, other = [], []
    for network in kept.values():
        for ours, peer, ratio in pairs(network["rows"]):
            (longer if ratio > SLOWER else other).append((ratio, f"{ours} beside {peer} on {_short(network)}"))
    told = [f"- **{ratio:.2f} times the time**: {words}." for ratio, words in sorted(longer, reverse=True)]
    first = "A peer is faster here:\n\n" + "\n".join(told) if told else "No peer is faster in these tables."
    ratios = [ratio for ratio, _ in other]
    rest = (
        f"In the other pairs ({len(ratios)}) ours takes {min(ratios):.2f} to {max(ratios):.2f} times the time of the peer."
    )
    return f"{first}\n\n{rest}" if told and ratios else f"{first} {rest}" if ratios else first


def pairs(rows: Sequence[Row]) -> list[tuple[str, str, float]]:
    """Return our method, that of a peer with the same job, and the ratio of their median times."""
    return [
        (one["name"], other["name"], statistics.median(one["seconds"]) / statistics.median(other["seconds"]))
        for one in rows
        for other in rows
        if one["job"] and one["job"] == other["job"] and one["package"] == "ours" != other["package"]
    ]


def _short(network: Row) -> str:
    return str(network["title"].partition(",")[0])


def section(network: Row) -> str:
    """Write the table of a network, and what refuses it."""
    many = network["photographs"] > 1
    versions = ", ".join(f"{name} {number}" for name, number in network["versions"].items())
    narrow = f", Score-CAM at `{network['narrow']}`" if network["narrow"] else ""
    slow = f", the earlier layer `{network['earlier']}`{narrow}" if network["slow"] else ", without methods of many forwards"
    words = (
        f"Layer `{network['layer']}`{slow}. {network['photographs']} "
        f"photograph{'s' * many} of {network['source']}, {network['rounds']} rounds. {network['processor']}, "
        f"{network['threads']} thread{'s' * (network['threads'] > 1)} of a machine that did other work as well, {versions}."
    )
    parts = [f"## {network['title']}", words, _table(network)]
    if network["refused"]:
        names: dict[str, list[str]] = {}
        for name, why in network["refused"].items():
            names.setdefault(why.partition(". ")[0].rstrip("."), []).append(name)
        reasons = [f"- {' and '.join(found)}: {why}." for why, found in names.items()]
        parts.append("\n".join(["Not here:\n", *reasons]))
    return "\n\n".join(parts)


def _table(network: Row) -> str:
    rows, count = network["rows"], network["photographs"]
    base = _forward(network)
    head = ["method", "median, s", "ratio to forward", "middle half", "FLOPs, in forwards", "peak, MiB", "photographs/s"]
    return table(head, [_cells(row, base, count) for row in rows])


def _cells(row: Row, base: Row, count: int) -> list[str]:
    seconds, unit = row["seconds"], statistics.median(base["seconds"])
    median = statistics.median(seconds)
    between = "one round"
    if len(seconds) > 1:
        low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
        between = f"{low / unit:.2f} to {high / unit:.2f}"
    ratios = f"{median / unit:.2f}", between, f"{row['flops'] / base['flops']:,.2f}"
    return [row["name"], f"{median:.3f}", *ratios, f"{row['peak']:,}", f"{count / median:.3g}"]


def main() -> None:
    """Measure the tables on the command line, keep what was measured and write the page."""
    parser = timing_options(__doc__, rounds=5)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="with ILSVRC (default: %(default)s)")
    parser.add_argument("--photographs", type=int, default=1, help="that run together (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--slow", nargs="*", choices=NETWORKS, default=list(NETWORKS), help="with methods of many forwards")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where the measurements are kept (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="write the page from what is kept; measure nothing")
    options = parser.parse_args()
    if not options.page:
        measure_all(options)
    (options.out or PAGE).write_text(page(json.loads(options.kept.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
