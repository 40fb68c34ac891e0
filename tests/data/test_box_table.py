"""A table of boxes: RSNA's columns, and others."""

import numpy as np
import pytest
import torch
from image_files import SIDE, block, draw, message, same, warned, write
from torch import nn

from captum_softcam.data import BoxTableSamples
from captum_softcam.evaluation import compare_methods

HEADER = "patientId,x,y,width,height,Target\n"
ROWS = """0004cfab,,,,,0
00436515,2.0,3.0,2.0,5.0,1
00436515,8.0,3.5,2.0,30.0,1
00569f44,1.0,1.0,3.0,3.0,1
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("0004cfab.png", "00436515.jpg", "00569f44.PNG"):
        draw(tmp_path / "images" / name)
    (tmp_path / "images/notes.txt").touch()
    return tmp_path / "images"


@pytest.fixture
def table(tmp_path):
    return write(tmp_path / "stage_2_train_labels.csv", HEADER + ROWS)


class TestReading:
    def test_rows_of_one_image_are_one_sample(self, folder, table):
        data = BoxTableSamples(folder, table, size=SIDE)
        want = [("0004cfab/0", 0, False), ("00436515/1", 1, True), ("00569f44/1", 1, True)]
        assert [(sample.identifier, sample.target, sample.mask is not None) for sample in data] == want
        assert data.classes == ("0", "1")
        assert data.masked == 2
        assert data[0].image.shape == (3, SIDE, SIDE)

    def test_boxes(self, folder, table):
        data = BoxTableSamples(folder, table, size=SIDE)
        assert same(data[1].mask, block((3, 8, 2, 4), (3, 12, 8, 10)))
        assert same(data[2].mask, block((1, 4, 1, 4)))

    @pytest.mark.parametrize("cells", ["0,0,0,0", "0.0,0,0.0,0", "nan,NaN,nan,nan", "None,,null,NA", ",,,"])
    def test_nothing_to_localise(self, folder, table, cells):
        write(table, f"{HEADER}0004cfab,{cells},0\n00436515,0,0,1,1,1\n")
        data = BoxTableSamples(folder, table, SIDE)
        assert data[0].mask is None
        assert data.masked == 1
        assert same(data[1].mask, block((0, 1, 0, 1)))

    def test_a_box_without_width_has_a_place(self, folder, table):
        write(table, f"{HEADER}00436515,5,7,0,0,1\n0004cfab,0,3,0,2,1\n")
        data = BoxTableSamples(folder, table, SIDE)
        assert same(data[0].mask, block((7, 8, 5, 6)))
        assert same(data[1].mask, block((3, 5, 0, 1)))

    @pytest.mark.parametrize("classes", [None, ["0", "1"]])
    def test_labels_with_a_fraction_of_zero(self, folder, table, classes):
        write(table, f"{HEADER}0004cfab,,,,,0.0\n00436515,1,1,2,2,1.0\n00569f44,1,1,2,2,1\n")
        data = BoxTableSamples(folder, table, SIDE, classes)
        assert [sample.identifier for sample in data] == ["0004cfab/0", "00436515/1", "00569f44/1"]
        assert data.classes == ("0", "1")
        assert [sample.target for sample in BoxTableSamples(folder, table, SIDE, ["0.0", "1.0", "1"])] == [0, 1, 2]

    def test_numbers_of_patients_are_texts(self, folder, table):
        draw(folder / "1.png")
        draw(folder / "0001.png")
        write(table, f"{HEADER}0001,,,,,0\n1,1,1,2,2,1\n")
        assert [sample.identifier for sample in BoxTableSamples(folder, table, SIDE)] == ["0001/0", "1/1"]

    def test_semicolons_and_decimal_commas(self, folder, table):
        write(table, "patientId;x;y;width;height;Target;;\n00436515;2,5;3;2,0;1;1,0;;\n;;;;;;;\n")
        (sample,) = BoxTableSamples(folder, table, SIDE)
        assert sample.identifier == "00436515/1"
        assert same(sample.mask, block((3, 4, 2, 5)))

    def test_other_columns_and_labels(self, folder, table):
        write(
            table,
            "file, finding, left, top, w, h, doctor\n"
            "0004cfab.png, mass, 0, 0, 1, 1, A\n"
            "0004cfab.png, nodule, 1, 1, 1, 1, A\n"
            "00436515.jpg, nodule, 0.2, 0, 0.9, 1, B\n",
        )
        names = {"image_column": "file", "label_column": "finding", "box_columns": ["left", "top", "w", "h"]}
        data = BoxTableSamples(folder, table, SIDE, **names)
        assert [sample.identifier for sample in data] == ["0004cfab.png/mass", "0004cfab.png/nodule", "00436515.jpg/nodule"]
        assert data.classes == ("mass", "nodule")
        assert same(data[2].mask, block((0, 1, 0, 2)))
        assert [(sample.group, sample.labels) for sample in data] == [
            ("0004cfab.png", (0, 1)),
            ("0004cfab.png", (0, 1)),
            ("00436515.jpg", (1,)),
        ]
        assert BoxTableSamples(folder, table, SIDE, ["nodule", "mass"], **names)[0].target == 0

    def test_a_file_named_in_two_ways_is_one_image(self, folder, table):
        write(table, "patientId,x,y,width,height,Target\n00436515,,,,,0\n00436515.jpg,1,1,2,2,1\n")
        data = BoxTableSamples(folder, table, size=SIDE)
        assert data.groups == ["00436515", "00436515"]
        assert [sample.labels for sample in data] == [(0, 1), (0, 1)]

    def test_one_label_per_image_is_not_multi_label(self, folder, table):
        data = BoxTableSamples(folder, table, size=SIDE)
        assert [(sample.group, sample.labels) for sample in data] == [(None, None)] * 3
        assert data.groups == [sample.identifier for sample in data]

    def test_numbers_are_the_numbers_of_the_classes(self, folder, table):
        write(table, HEADER + "0004cfab,0,0,1,1,10\n00436515,0,0,1,1,2\n")
        data = BoxTableSamples(folder, table)
        assert [sample.target for sample in data] == [2, 10]
        assert len(data.classes) == 11

    def test_a_converted_copy_goes_before_its_dicom_file(self, folder, table):
        (folder / "0004cfab.dcm").touch()
        assert BoxTableSamples(folder, table, SIDE)[0].image.shape == (3, SIDE, SIDE)

    def test_it_can_be_compared_on(self, folder, table):
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        )
        data = BoxTableSamples(folder, table, 16)
        part = torch.utils.data.Subset(data, [0, 1])
        comparison = compare_methods(model.eval(), part, ["grad_cam", "random"], ["pointing_game"], layer="0")
        assert comparison.manifest["samples_with_mask"] == 1
        scores = comparison.scores.set_index(["sample", "method"])["score"]
        assert np.isnan(scores["0004cfab/0", "random"])
        assert scores["00436515/1", "random"] in (0, 1)


class TestMessages:
    def test_missing(self, folder, table, tmp_path):
        text = message(FileNotFoundError, lambda: BoxTableSamples(tmp_path / "no", table))
        assert text == f"image folder '{tmp_path}/no' is not a directory."
        text = message(FileNotFoundError, lambda: BoxTableSamples(folder, tmp_path / "no.csv"))
        assert text == f"table '{tmp_path}/no.csv' is not a file."
        (folder / "0004cfab.png").unlink()
        words = f"line 2 of '{table}' names the image '0004cfab', which is not in '{folder}', with any ending."
        data = warned(
            f"table '{table}': 1 left out (no such image): 0004cfab. The first of them: {words}",
            lambda: BoxTableSamples(folder, table),
        )
        assert [sample.identifier for sample in data] == ["00436515/1", "00569f44/1"]
        assert (data.found.files, data.found.left_out) == (3, {"no such image": ["0004cfab"]})
        for file in folder.iterdir():
            file.unlink()
        assert message(FileNotFoundError, lambda: BoxTableSamples(folder, table)) == words

    def test_two_files(self, folder, table):
        draw(folder / "0004cfab.jpg")
        assert message(ValueError, lambda: BoxTableSamples(folder, table)) == (
            f"line 2 of '{table}' names the image '0004cfab', which could be 0004cfab.jpg, 0004cfab.png; keep one of them."
        )

    def test_columns(self, folder, table):
        write(table, "patientId,x,y,w,h,Target\n")
        assert message(ValueError, lambda: BoxTableSamples(folder, table)) == (
            f"table '{table}' has no column 'width', 'height' but 'patientId', 'x', 'y', 'w', 'h', 'Target'. Pass the "
            "names in your table as image_column, label_column and box_columns (left edge, top edge, width, height), at the "
            "terminal as --image-column, --label-column and --box-columns."
        )
        text = message(ValueError, lambda: BoxTableSamples(folder, table, box_columns=["x", "y"]))
        assert text == "box_columns are left edge, top edge, width and height; got 2 names."
        edges = ["x_min", "y_min", "x_max", "y_max"]
        assert message(ValueError, lambda: BoxTableSamples(folder, table, box_columns=edges)) == (
            "box_columns has 'x_max' as the width, which is named like an edge; subtract the opposite edge from it first, "
            "and pass the column of the difference."
        )

    @pytest.mark.parametrize(
        ("row", "words"),
        [
            ("0004cfab,1,2,,4,1", "line 3 of '{}' has '' in the column 'width'; expected a number, or four empty cells."),
            ("0004cfab,1,two,3,4,1", "line 3 of '{}' has 'two' in the column 'y'; expected a number, or four empty cells."),
            ("0004cfab,1,nan,3,4,1", "line 3 of '{}' has 'nan' in the column 'y'; expected a number, or four empty cells."),
            ("0004cfab,1,2,-3,4,1", "line 3 of '{}' has a box of -3 x 4 pixels; expected none below 0."),
            (" ,1,2,3,4,1", "line 3 of '{}' has nothing in the column 'patientId'."),
            ("0004cfab,1,2,3,4,", "line 3 of '{}' has nothing in the column 'Target'."),
            ("0004cfab,1,2,3,4", "line 3 of '{}' does not have the 6 columns of the header."),
            ("0004cfab,1,2,3,4,1,5", "line 3 of '{}' does not have the 6 columns of the header."),
            (
                "00436515,,,,,1",
                "line 3 of '{0}' has no box and line 2 of '{0}' has one, for the same image and label; leave one out.",
            ),
        ],
    )
    def test_rows(self, folder, table, row, words):
        write(table, f"{HEADER}00436515,1,1,1,1,1\n{row}\n")
        assert message(ValueError, lambda: BoxTableSamples(folder, table)) == words.format(table)

    def test_a_box_where_there_was_none(self, folder, table):
        write(table, f"{HEADER}00436515,,,,,1\n00436515,1,1,1,1,1\n")
        assert message(ValueError, lambda: BoxTableSamples(folder, table)) == (
            f"line 3 of '{table}' has a box and line 2 of '{table}' none, for the same image and label; leave one out."
        )

    def test_no_rows_and_no_csv(self, folder, table):
        write(table, HEADER)
        text = message(ValueError, lambda: BoxTableSamples(folder, table))
        assert text == f"table '{table}' has no rows; expected one per box below the header."
        table.write_bytes(b"\xff")
        text = message(ValueError, lambda: BoxTableSamples(folder, table))
        assert text.startswith(f"table '{table}' cannot be read as CSV in UTF-8 (")

    def test_unknown_label(self, folder, table):
        text = message(ValueError, lambda: BoxTableSamples(folder, table, classes=["0", "2"]))
        assert text == f"line 3 of '{table}' has the unknown class '1'. Known: '0', '2'."

    def test_outside(self, folder, table):
        write(table, f"{HEADER}00436515,12,1,5,5,1\n")
        data = BoxTableSamples(folder, table)
        assert message(ValueError, lambda: data[0]) == (
            f"image '00436515' in '{table}': the box with the edges left 12, top 1, right 17, bottom 6 lies outside its "
            "image of 12x12 pixels."
        )
