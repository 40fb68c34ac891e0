"""The table of a comparison in HTML and CSV, and how a comparison shows itself."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from reports import HOSTILE, METHODS, hostile_comparison, make_comparison, without

from captum_softcam.evaluation import Comparison

ALLOWED = {"div", "style", "table", "caption", "thead", "tbody", "tr", "th", "td", "small", "b", "span", "ul", "li"}


class Page(HTMLParser):
    """The rows of a table as text, the tags used, and the notes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows, self.classes, self.notes, self.tags, self.open = [], [], [], set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        assert {name for name, _ in attrs} <= {"class", "colspan"}
        if tag == "tr":
            self.rows.append([])
            self.classes.append(dict(attrs).get("class", ""))
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "li":
            self.notes.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "li" in self.open:
            self.notes[-1] += data
        elif self.open[-1] in ("td", "th", "b", "small", "span"):
            self.rows[-1][-1] += "*" + data if self.open[-1] == "b" else data


@pytest.fixture
def comparison() -> Comparison:
    return make_comparison()


class TestHtml:
    def test_the_table_says_what_markdown_says(self, comparison):
        page = Page(comparison.to_html())
        groups, head, *rows = page.rows
        assert groups == ["", "localisation", "faithfulness", "complexity", "overall"]
        assert head[1:4] == ["Pixel AUC ↑ higher", "Deletion ↓ lower", "Sparseness ↑ higher"]
        assert [row[0] for row in rows] == ["soft_cam", "grad_cam baseline", "occlusion", "random control"]
        assert page.classes[2:] == ["", "", "", "control"]
        markdown = [line.split(" | ") for line in comparison.to_markdown().splitlines()[2:6]]
        for row, line in zip(rows, markdown, strict=True):
            for found, expected in zip(row[1:4], line[1:4], strict=True):
                mean = re.sub(r"\*\*(.+?)\*\*", r"*\1", expected.strip())
                assert sorted(found.split()) == sorted(mean.split())
        assert page.notes == comparison.view().notes()
        assert rows[0][4:] == ["1.5", "1.0 1 + 0"]

    def test_another_baseline(self, comparison):
        assert "soft_cam <small>baseline</small>" in comparison.to_html("soft_cam")
        with pytest.raises(ValueError, match="'grad_can' is not among the methods"):
            comparison.to_html("grad_can")

    def test_names_are_text(self):
        page = Page(hostile_comparison().to_html())
        assert page.tags <= ALLOWED
        assert [row[0].removesuffix(" control").removesuffix(" baseline") for row in page.rows[2:]][:3] == list(HOSTILE[:3])

    def test_one_method_and_metric(self, comparison):
        page = Page(without(comparison, methods=1, metrics=1).to_html())
        assert page.rows[2][0] == "soft_cam"
        assert "baseline" not in page.rows[2][0]


class TestCsv:
    def test_a_row_per_method_and_metric(self, comparison):
        table = pd.read_csv(io.StringIO(comparison.to_csv())).set_index(["method", "metric"])
        assert list(table.index) == list(comparison.summary().index)
        for name in ("mean", "low", "high", "count", "undefined", "failed"):
            assert table[name].tolist() == pytest.approx(comparison.summary()[name].tolist(), rel=0, abs=0, nan_ok=True)
        differences = comparison.differences()
        assert table["difference_mean"].dropna().tolist() == differences["mean"].dropna().tolist()
        verdicts = differences["better"].map({1: "better", 0: "", -1: "worse"}).replace("", float("nan"))
        kept = differences.index[table.loc[differences.index, "count"] > 0]
        assert table["verdict"][kept].equals(verdicts[kept])
        assert table["role"].dropna().unique().tolist() == ["baseline", "control"]
        assert table["cost_relative"].loc["grad_cam"].tolist() == [15.0] * 3

    def test_what_is_not_known_is_empty(self, comparison):
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(io.StringIO(comparison.to_csv()))}
        assert rows["random", "deletion"]["mean"] == rows["grad_cam", "deletion"]["difference_mean"] == ""
        assert rows["random", "deletion"]["cost_peak_bytes"] == ""
        assert "nan" not in comparison.to_csv()

    def test_names_stay_as_they_are(self):
        found = {row["method"] for row in csv.DictReader(io.StringIO(hostile_comparison().to_csv()))}
        assert found == set(HOSTILE)


class TestNotebook:
    def test_a_cell_shows_the_table(self, comparison):
        assert comparison._repr_html_() == comparison.to_html()

    def test_the_repr_is_a_line(self, comparison):
        assert repr(comparison) == (
            f"Comparison({len(comparison.samples)} samples; methods: {', '.join(METHODS)}; "
            "metrics: pixel_auc, deletion, sparseness)"
        )
        assert "\n" not in repr(hostile_comparison())
        assert len(repr(hostile_comparison())) < 300
