"""Tables and notes of a comparison, in the terminal and in its folder."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, Example
from captum_softcam.metrics import METRICS
from captum_softcam.report import make_table, print_table, table_notes, write_pictures

NAN = float("nan")
VALUES = {("soft_cam", "pixel_auc"): [0.9, 0.8], ("random", "pixel_auc"): [0.5, NAN]}


@pytest.fixture
def comparison() -> Comparison:
    rows = [
        {"sample": f"s{i}", "label": i, "target": i, "prediction": 0, "method": method, "metric": metric, "score": score}
        for (method, metric), scores in VALUES.items()
        for i, score in enumerate(scores)
    ]
    images = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 12, 16, dtype=torch.bool)
    mask[:, 2:6, 3:9] = True
    maps = {"soft_cam": torch.linspace(-1, 2, 192).view(1, 12, 16), "random": torch.zeros(1, 12, 16)}
    examples = [Example(Sample(image, i, mask if i else None, f"s{i}"), i, maps) for i, image in enumerate(images)]
    costs = {"forwards": [65.5, 0.0], "backwards": [2.0, 0.0], "relative": [1.02, 0.0]}
    table = pd.DataFrame(costs, index=pd.Index(["soft_cam", "random"], name="method"))
    return Comparison(pd.DataFrame(rows), table, {"samples_with_mask": 2}, examples=examples)


def _printed(comparison: Comparison, width: int) -> str:
    text = io.StringIO()
    print_table(comparison, Console(file=text, width=width))
    return text.getvalue()


@pytest.mark.parametrize("width", [30, 200])
def test_the_table_says_it_all_at_any_width(comparison, width):
    text = _printed(comparison, width)
    for part in ("soft_cam", "random", "(control)", "Pixel AUC ↑", "0.850*", "[0.800, 0.900]", "0.500", "1.0", "cost"):
        assert part in text
    for part in ("(baseline)", "passes", "65.5 + 2", "0 + 0"):
        assert part in text
    assert "0.500*" not in text


@pytest.mark.parametrize(("baseline", "mark", "other"), [(None, "▼", "▲"), ("random", "▲", "▼")])
def test_what_differs_from_the_baseline_is_marked(comparison, baseline, mark, other):
    rows = comparison.scores[comparison.scores["sample"] == "s0"]
    many = [rows.assign(sample=f"m{i}", score=rows["score"] + i / 100) for i in range(8)]
    larger = dataclasses.replace(comparison, scores=pd.concat(many, ignore_index=True))
    text = io.StringIO()
    Console(file=text, width=100).print(make_table(larger, baseline=baseline))
    assert text.getvalue().count(mark) == 1
    assert other not in text.getvalue()
    (note,) = [note for note in table_notes(larger, baseline) if "▲" in note]
    assert note.startswith(f"▲ better, ▼ worse than {baseline or 'soft_cam'}: by the paired difference, at a level of 5 %")


def test_a_baseline_that_is_not_there(comparison):
    with pytest.raises(ValueError, match=r"baseline 'randon' is not among the methods. Closest: 'random'"):
        make_table(comparison, baseline="randon")


def test_notes_on_a_baseline_that_is_not_there(comparison):
    with pytest.raises(ValueError, match="'nobody' is not among the methods"):
        table_notes(comparison, "nobody")


def test_a_metric_that_is_not_there(comparison):
    known = comparison.metrics[0]
    with pytest.raises(ValueError, match=f"the metric '{known}s' is not in this comparison. Closest: '{known}'"):
        make_table(comparison, [known, f"{known}s"])


def test_titles_and_directions_are_the_manifests(comparison):
    entry = {"title": "[bold]Of a later version", "category": "complexity", "higher_is_better": False}
    rows = comparison.scores.assign(metric="later")
    text = _printed(dataclasses.replace(comparison, scores=rows, manifest={"metrics": {"later": entry}}), 200)
    assert "[bold]Of a " in text
    assert "later version ↓" in text, "the arrow is never alone on a line"
    assert "0.500*" in text


def test_names_in_brackets_are_no_style(comparison):
    renamed = comparison.scores.replace({"method": {"soft_cam": "[red]mine"}})
    assert "[red]mine" in _printed(dataclasses.replace(comparison, scores=renamed), 200)


@pytest.fixture
def whole(comparison) -> Comparison:
    """The comparison under every metric."""
    parts = [comparison.scores.assign(metric=name) for name in METRICS]
    return dataclasses.replace(comparison, scores=pd.concat(parts, ignore_index=True))


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 150])
def test_a_narrow_terminal_gets_tables_that_fit(whole, width, terminal):
    text = io.StringIO()
    print_table(whole, Console(file=text, width=width, force_terminal=terminal, color_system=None))
    table = text.getvalue().split("2 samples")[0]
    assert max(map(len, table.splitlines())) <= width
    parts = [part for part in table.split("\n\n") if part]
    assert table.count("soft_cam") == len(parts)
    for metric in METRICS.values():
        assert sum(all(word in part for word in metric.title.split()) for part in parts) >= 1
    assert table.count("[0.800, 0.900]") == len(METRICS), "no interval is broken"
    assert ["passes" in part for part in parts] == [False] * (len(parts) - 1) + [True]


def test_every_metric_stands_in_one_part(whole):
    titles = {metric.title for metric in METRICS.values()}
    heads = [" ".join(column.header.plain.split()[:-1]) for column in make_table(whole).columns[1:-2]]
    assert sorted(heads) == sorted(metric.title for metric in METRICS.values())
    assert len(titles) == len(heads)


def test_long_names_and_titles_are_folded(comparison):
    name, title = "m" * 60 + "_end", "Title" * 12
    entry = {"title": title, "category": "complexity", "higher_is_better": True}
    rows = comparison.scores.replace({"method": {"soft_cam": name}}).assign(metric="long")
    found = dataclasses.replace(comparison, scores=rows, manifest={"metrics": {"long": entry}})
    text = _printed(found, 80).split("2 samples")[0]
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    first = "".join(line.split()[0] for line in text.splitlines() if line.startswith(("mm", "_")))
    assert first.replace("(control)", "").startswith(name)


@pytest.mark.parametrize(("columns", "most"), [(None, 80), ("120", 120), ("60", 60)])
def test_a_pipe_counts_as_80_columns_unless_told(whole, columns, most, monkeypatch, capsys):
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((300, 50)))
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    print_table(whole)
    longest = max(map(len, capsys.readouterr().out.split("2 samples")[0].splitlines()))
    assert most - 20 < longest <= most


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_without_unicode_gets_other_marks(comparison, encoding, monkeypatch):
    rows = comparison.scores[comparison.scores["sample"] == "s0"]
    many = [rows.assign(sample=f"m{i}", score=rows["score"] + i / 100) for i in range(6)]
    larger = dataclasses.replace(comparison, scores=pd.concat(many, ignore_index=True))
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr("sys.stdout", stream)
    print_table(larger)
    text = stream.buffer.getvalue().decode(encoding)
    higher, better, worse = ("↑", "▲", "▼") if encoding == "utf-8" else ("^", "+", "-")
    assert f"Pixel AUC {higher}" in text
    assert f"0.525 {worse}" in text
    assert f"{better} better, {worse} worse than soft_cam" in text
    assert "\\u" not in text
    assert stream.errors == "strict"


def test_markdown_and_csv_are_never_split(whole):
    for form, expected in (("markdown", whole.to_markdown()), ("csv", whole.to_csv())):
        text = io.StringIO()
        print_table(whole, Console(file=text, width=40), form)
        assert text.getvalue() == expected


def test_csv_for_a_terminal_does_not_act_on_it(comparison):
    renamed = comparison.scores.replace({"method": {"soft_cam": "\x1b[2Jmine"}})
    text = io.StringIO()
    print_table(dataclasses.replace(comparison, scores=renamed), Console(file=text, width=40), "csv")
    assert "\x1b" not in text.getvalue()
    assert "\\x1b[2Jmine" in text.getvalue()


def test_notes_count_what_is_undefined(comparison):
    notes = table_notes(comparison)
    assert "2 samples, 1 of them classified correctly." in notes
    assert "random, pixel_auc: 1 of 2 scores are undefined (NaN)." in notes
    assert not any(note.startswith("soft_cam") for note in notes)


def test_notes_tell_of_failures(comparison):
    rows = [("s0", "random", "", "RuntimeError: [x] no\nmemory"), ("s1", "random", "", "RuntimeError: [x] no\nmemory")]
    rows += [("s0", "soft_cam", "pixel_auc", f"ValueError: {i}") for i in (1, 2, 2)]
    failures = pd.DataFrame(rows, columns=["sample", "method", "metric", "error"])
    failed = dataclasses.replace(comparison, failures=failures)
    notes = table_notes(failed)
    assert "random: failed on 2 of 2 samples: RuntimeError: [x] no memory" in notes
    assert "soft_cam, pixel_auc: failed on 1 of 2 samples: ValueError: 2 (and other errors: 1)" in notes
    assert not any("undefined" in note for note in notes), "what failed is told once"
    assert "RuntimeError: [x] no memory" in _printed(failed, 200)


def test_table_and_panel_stand_beside_the_scores(comparison, tmp_path):
    comparison.save(tmp_path / "result")
    write_pictures(comparison, tmp_path / "result")
    files = {path.name for path in (tmp_path / "result").iterdir()}
    assert files == {"scores.csv", "costs.csv", "examples.npz", "manifest.json", "table.txt", "panel.png"}
    assert "0.850*" in (tmp_path / "result" / "table.txt").read_text(encoding="utf-8")
    loaded = Comparison.load(tmp_path / "result")
    assert _printed(loaded, 200) == _printed(comparison, 200)
    assert list(loaded.examples[0].maps) == ["soft_cam", "random"]


def test_a_table_in_a_file_has_no_colours(comparison, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a notebook sets it for the commands that it runs
    write_pictures(comparison, tmp_path)
    assert "\x1b" not in (tmp_path / "table.txt").read_text(encoding="utf-8")


def test_without_examples_there_is_no_panel(comparison, tmp_path):
    write_pictures(dataclasses.replace(comparison, examples=[]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"table.txt"}


def test_the_panel_stays_a_panel(comparison, tmp_path):
    write_pictures(comparison, tmp_path)
    few = _height(tmp_path / "panel.png")
    write_pictures(dataclasses.replace(comparison, examples=comparison.examples * 20), tmp_path)
    assert _height(tmp_path / "panel.png") < 3 * few, "four rows, however many examples were kept"


def _height(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.height
