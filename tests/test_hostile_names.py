"""Names that hurt: classes, files, methods and metrics called anything, through the command, pictures, tables and files."""

from __future__ import annotations

import dataclasses
import io
import re
import sys

import command
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from comparisons import make_model, make_samples
from PIL import Image
from reports import METHODS, make_comparison, renamed_examples
from rich.console import Console

from captum_softcam import cli
from captum_softcam._names import as_text
from captum_softcam.attr import LayerChoice
from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, Example, compare_methods
from captum_softcam.metrics import METRICS
from captum_softcam.report import make_layer_table, plot_panel, print_table, table_notes, write_pictures, write_report

ON_DISK = [
    "$x_{$",
    r"\frac{1}",
    "100%",
    "#a_b",
    "<script>",
    "new\nline",
    "tab\t",
    "\u202ertl",
    "\x1b[2J\x1b]0;t\x07",
    "\x9b2J",
]
ON_DISK += [
    "[red]x[]",
    "=1+1",
    "+a",
    "-b",
    "@c",
    "😀",
    "n" * 240,
    "l\udcff",
    "a|b&c~d^e",
    "q\"'`",
    "\r",
    " ",
    "nan",
    "{0}",
    "%s",
]
NAMES = [*ON_DISK, "</script><img src=x onerror=alert(1)>", "nul\0l", "\ud800", "n" * 10_000, "[/]", "a/b", "_", "\ufeff"]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


def in_turn(names: list[str]) -> list[list[str]]:
    """Groups of as many names as a comparison of the tests has methods."""
    names = names + names[: -len(names) % len(METHODS)]
    return [names[start : start + len(METHODS)] for start in range(0, len(names), len(METHODS))]


def renamed(names: list[str]) -> Comparison:
    """A comparison whose methods, metrics, classes, samples and errors bear these names."""
    comparison = make_comparison()
    names = list(map(as_text, names))  # as a run names them
    methods = dict(zip(METHODS, names, strict=True))
    metrics = dict(zip(comparison.metrics, names, strict=False))
    samples = {f"s{place}": name for place, name in enumerate(names)}
    manifest = {
        **comparison.manifest,
        "classes": names,
        "data": {"images": names[0]},
        "methods": {methods[name]: entry for name, entry in comparison.manifest["methods"].items()},
        "metrics": {
            metrics[name]: {**entry, "title": metrics[name]} for name, entry in comparison.manifest["metrics"].items()
        },
    }
    tables = {
        name: getattr(comparison, name).replace({"method": methods, "metric": metrics, "sample": samples})
        for name in ("scores", "curves", "failures")
    }
    examples = renamed_examples(comparison, names, methods)
    tables["failures"] = tables["failures"].assign(error=[f"ValueError: {name}" for name in names[:3]])
    return Comparison(costs=comparison.costs.rename(index=methods), manifest=manifest, examples=examples, **tables)


@pytest.fixture(params=in_turn(NAMES), ids=lambda names: ascii(names)[:40])
def names(request) -> list[str]:
    return request.param


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
class TestAfterTheRun:
    def test_folder(self, names, tmp_path):
        """What is read is what was saved, to the letter."""
        names = list(map(as_text, names))
        comparison = renamed(names)
        comparison.save(tmp_path / "run")
        found = Comparison.load(tmp_path / "run")
        pd.testing.assert_frame_equal(found.scores, comparison.scores)
        pd.testing.assert_frame_equal(found.failures, comparison.failures)
        assert found.methods == comparison.methods == names
        assert [list(example.maps) for example in found.examples] == [names, names]
        assert found.manifest["classes"] == names

    def test_pictures_and_table(self, names, tmp_path):
        comparison = renamed(names)
        write_pictures(comparison, tmp_path, names)
        comparison.plot().savefig(tmp_path / "plot.png")
        text = (tmp_path / "table.txt").read_text(encoding="utf-8")
        assert not CONTROL.search(text)
        assert max(map(len, text.splitlines())) < 1000

    def test_terminal(self, names):
        out = io.StringIO()
        print_table(renamed(names), Console(file=out, force_terminal=True, width=200, color_system=None))
        print_table(renamed(names), Console(file=out, width=200))
        assert not CONTROL.search(re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()))  # the styles of rich itself
        assert not any(CONTROL.search(note) for note in table_notes(renamed(names)))

    def test_markdown_and_latex(self, names):
        comparison = renamed(names)
        table = comparison.to_markdown().split("\n\n")[0].splitlines()
        assert len(table) == 2 + len(names)
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(comparison.metrics) + 5}
        latex = comparison.to_latex()
        for text in (comparison.to_markdown(), latex):
            assert not CONTROL.search(text)
            assert max(map(len, text.splitlines())) < 3000
        head, *rows = re.findall(r".*\\\\$", latex, re.MULTILINE)
        assert len(rows) == len(names)
        assert {len(re.findall(r"(?<!\\)&", row)) for row in (head, *rows)} == {len(comparison.metrics) + 3}
        plain = re.sub(r"\\[{}$&#_%]", "", re.sub(r"\$[^$\n]*\$", "", re.sub(r"\\\$", "", latex)))
        assert "$" not in plain

    def test_report(self, names, tmp_path):
        write_report(renamed(names), tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        body = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL)
        assert "<script>" not in body
        assert "<img src=x" not in body
        assert not re.search(r"[\x00-\x08\x0e-\x1b\x7f\u202a-\u202e]", page)

    def test_panel_of_one(self, names):
        sample = Sample(torch.rand(3, 16, 16), 0, None, names[0])
        plot_panel([Example(sample, 0, {name: torch.rand(1, 16, 16) for name in names})], names).savefig(io.BytesIO())


def test_layers_are_text():
    """A file from elsewhere names its layers."""
    choices = [LayerChoice(name, (1, 2, 3, 3), (3, 3), (1.0, 1.0), 9, False, "why") for name in NAMES]
    out = io.StringIO()
    Console(file=out, width=500).print(make_layer_table(choices))
    assert not CONTROL.search(out.getvalue())
    assert "[red]x[]" in out.getvalue()


@pytest.mark.parametrize("name", ["\udcff", "nul\0l", "a/b", "../x", "$x_{$", "n" * 10_000, "", "😀" * 3000])
def test_metrics_and_methods_of_a_run(tmp_path, name):
    """Parts of a run are ZIP files, which cannot name what they hold at will."""

    stops = [True]

    def other(_model, images, _targets):
        if stops and any((tmp_path / "run/parts").glob("*.npz")):
            raise KeyboardInterrupt(stops.pop())
        return images.mean(1, keepdim=True)

    methods = {name: other, "random": "random"}
    metrics = [dataclasses.replace(METRICS["deletion"], name=name, title=name)]
    options = {"batch_size": 2, "folder": tmp_path / "run", "baseline": name}
    with pytest.raises(KeyboardInterrupt):
        compare_methods(make_model(), make_samples(4), methods, metrics, **options)
    compare_methods(make_model(), make_samples(4), methods, metrics, resume=True, **options)
    found = Comparison.load(tmp_path / "run")
    assert found.methods == [as_text(name), "random"]
    assert found.metrics == [as_text(name)]
    assert len(found.curves) == 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Class folders and files with such names, and weights for them."""
    root = tmp_path_factory.mktemp("hostile")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 24, 24, 3), dtype=np.uint8)
    for name in ON_DISK:
        (root / "images" / name).mkdir(parents=True)
        Image.fromarray(pixels[0]).save(root / "images" / name / f"{name}.png")
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(num_classes=len(ON_DISK)).state_dict(), root / "w.pt")
    return root


def run(encoding: str, *arguments: object) -> tuple[int, str]:
    """The command with a console of that encoding, which raises errors for all else, as Python's own does."""
    before = sys.stdout
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)
    try:
        cli.main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        written, sys.stdout = sys.stdout.buffer.getvalue().decode(encoding), before
    return code, written


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
class TestTheCommand:
    @pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
    def test_compare(self, folder, tmp_path, encoding):
        """A console that is not UTF-8 once ended the run with status 2 and no report."""
        model = ("--model", "squeezenet1_1", "--checkpoint", folder / "w.pt")
        quick = ("--methods", "random", "--metrics", "sparseness", "--samples", len(ON_DISK), "--gallery", len(ON_DISK))
        out, report = tmp_path / "run", tmp_path / "report.html"
        code, text = run(
            encoding, "compare", "--images", folder / "images", *model, *quick, "--out", out, "--report", report
        )
        assert code == 0
        assert not CONTROL.search(text)
        assert (out / "panel.png").is_file()
        assert report.is_file()
        found = Comparison.load(out)
        assert sorted(found.samples) == sorted(as_text(f"{name}/{name}.png") for name in ON_DISK)
        assert found.manifest["classes"] == list(map(as_text, sorted(ON_DISK)))

    @pytest.mark.parametrize("name", ["$x_{$", "\x1b[2J\x1b]0;t\x07", "[red]x[]", "-b", "l\udcff", "n" * 240])
    def test_explain(self, folder, tmp_path, name):
        classes = ",".join(entry.strip() or "blank" for entry in ON_DISK)
        model = ("--model", "squeezenet1_1", "--checkpoint", folder / "w.pt", "--classes", classes)
        options = ("--methods", "random", f"--target={name}", "--out", tmp_path / "explained")
        code, text = run("ascii", "explain", folder / "images" / name / f"{name}.png", *model, *options)
        assert code == 0
        assert not CONTROL.search(text)
        assert len(list((tmp_path / "explained").glob("*.npz"))) == 1

    def test_metrics_in_ascii(self):
        code, text = run("ascii", "metrics")
        assert code == 0
        assert "pointing_game* ^" in text
        assert "\\u" not in text


MONSTER = "x\x1b[2J\u202e" * 30_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "--methods", MONSTER),
        ("compare", "--metrics", MONSTER),
        ("compare", "--model", MONSTER),
        ("compare", "--model", f"{MONSTER}.safetensors"),
        ("compare", "--images", MONSTER),
        ("compare", "--images", MONSTER, "--coco", MONSTER),
        ("compare", "--voc", MONSTER),
        ("compare", "--pets", MONSTER),
        ("compare", "--imagenet", MONSTER),
        ("compare", "--seed", MONSTER),
        ("compare", "--seed", "9" * 5000),
        ("compare", "--samples", MONSTER),
        ("compare", "--explain", MONSTER),
        ("compare", "--baseline", MONSTER, "--methods", "random", "--metrics", "sparseness", "--samples", "1"),
        ("compare", "--layer", MONSTER, "--methods", "recipro_cam", "--metrics", "sparseness", "--samples", "1"),
        ("compare", "--device", MONSTER),
        ("compare", "--address", MONSTER),
        ("compare", "--out", MONSTER),
        ("compare", "--resume", "--out", MONSTER),
        ("compare", "--report", MONSTER),
        (MONSTER,),
        ("explain", MONSTER),
        ("explain", "no.png", "--target", MONSTER),
        ("explain", "no.png", "--out", f"{MONSTER}.png"),
        ("explain", "no.png", "--out", f"no.{MONSTER}"),
        ("explain", "no.png", "--layer", MONSTER),
        ("layers", "--model", MONSTER),
        ("layers", "--size", MONSTER),
        ("convert", "--model", MONSTER),
        ("convert", "--out", MONSTER),
        ("convert", "--onnx", MONSTER),
        ("convert", "--model", "resnet18", "--checkpoint", MONSTER, "--classes", MONSTER),
        ("convert", "--model", "resnet18", "--weights", MONSTER),
        ("train", "--images", MONSTER, "--out", "run"),
        ("train", "--csv", MONSTER, "--out", "run"),
        ("train", "--resume", "--out", MONSTER),
        ("train", "--lr", MONSTER, "--out", "run"),
        ("train", "--images", "no", "--model", MONSTER, "--out", "run"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(MONSTER, "MONSTER")[:60],
)
def test_messages_of_the_command_are_short(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command.run(*arguments)
    assert done.code == 2
    said = done.err.splitlines()[-1]
    assert len(said) <= 500 + len("captum-softcam compare: error: ")
    assert not CONTROL.search(done.err)
