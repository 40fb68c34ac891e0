"""What a comparison looks like: the table, its notes, the picture, the folder."""

from __future__ import annotations

import dataclasses
import io

import pandas as pd
import pytest
import torch
from rich.console import Console

from captum_softcam.data import Sample
from captum_softcam.evaluation import Comparison, Example
from captum_softcam.metrics import METRICS
from captum_softcam.report import folder as folder_module
from captum_softcam.report import plot_panel, print_table, refuse_existing, table_notes, write_folder

VALUES = {("soft_cam", "pixel_auc"): [0.9, 0.8], ("random", "pixel_auc"): [0.5, float("nan")]}


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
    return Comparison(pd.DataFrame(rows), {"soft_cam": 1.02, "random": 0.0}, {"samples_with_mask": 2}, examples)


def _printed(comparison: Comparison, width: int) -> str:
    text = io.StringIO()
    print_table(comparison, Console(file=text, width=width))
    return text.getvalue()


@pytest.mark.parametrize("width", [20, 200])
def test_the_table_says_it_all_at_any_width(comparison, width):
    text = _printed(comparison, width)
    for part in ("soft_cam", "random", "(control)", "Pixel AUC ↑", "0.850*", "[0.800, 0.900]", "0.500", "1.0", "cost"):
        assert part in text
    assert "0.500*" not in text


@pytest.mark.parametrize("width", [60, 80, 100, 150])
def test_a_narrow_terminal_gets_tables_that_fit(comparison, width):
    parts = [comparison.scores.assign(metric=name) for name in METRICS]
    whole = dataclasses.replace(comparison, scores=pd.concat(parts, ignore_index=True))
    text = io.StringIO()
    print_table(whole, Console(file=text, width=width, force_terminal=True, color_system=None))
    table = text.getvalue().split("2 samples")[0]
    assert max(map(len, table.splitlines())) <= width
    assert table.count("soft_cam") == -(-6 // ((width - 37) // 19))
    for metric in METRICS.values():
        assert all(word in table for word in metric.title.split())


def test_notes_count_what_is_undefined(comparison):
    notes = table_notes(comparison)
    assert "2 samples, 1 of them predicted right." in notes
    assert "random, pixel_auc: 1 of 2 scores are undefined (NaN)." in notes
    assert not any(note.startswith("soft_cam") for note in notes)


def test_the_panel_shows_input_mask_and_every_method(comparison, tmp_path):
    figure = plot_panel(comparison.examples, ["healthy", "sick"])
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["input", "mask", "soft cam", "random"]
    shown = figure.axes[2].images[0]
    assert shown.get_clim() == (-1, 1)
    assert float(shown.get_array().max()) == pytest.approx(1)
    assert float(shown.get_array().min()) == pytest.approx(-0.5), "the sign and the ratio of the values stay"
    figure.savefig(tmp_path / "panel.png")
    assert (tmp_path / "panel.png").stat().st_size > 1000


def test_no_examples_no_panel():
    with pytest.raises(ValueError, match="there are no examples to draw"):
        plot_panel([])


def test_the_folder_is_whole(comparison, tmp_path):
    write_folder(comparison, tmp_path / "deep" / "result")
    files = {path.name for path in (tmp_path / "deep" / "result").iterdir()}
    assert files == {"scores.csv", "manifest.json", "table.txt", "panel.png"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result"]
    assert "0.850*" in (tmp_path / "deep" / "result" / "table.txt").read_text(encoding="utf-8")


def test_an_existing_folder_is_refused(comparison, tmp_path):
    with pytest.raises(FileExistsError, match=r"exists already and is not overwritten; choose another --out"):
        write_folder(comparison, tmp_path)
    with pytest.raises(FileExistsError):
        refuse_existing(tmp_path)


def test_a_failure_leaves_nothing_behind(comparison, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(folder_module, "plot_panel", fail)
    with pytest.raises(OSError, match="no space left"):
        write_folder(comparison, tmp_path / "result")
    assert list(tmp_path.iterdir()) == []
