"""Files that someone else made, with the worst that can stand in them: a right sample, or words that name the file."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import resource
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from image_files import SIDE, damaged, draw, message, pascal_xml, write
from PIL import Image

from captum_softcam.data import (
    BoxTableSamples,
    CocoSamples,
    ImageNetSamples,
    LabelledImages,
    LabelTableSamples,
    OxfordPetSamples,
    VOCSamples,
)
from captum_softcam.data._pixels.regions import polygon_mask

OUTSIDE = ["../secret.png", "a/../../secret.png", "..\\secret.png", "C:\\secret.png", "C:secret.png", "\\\\host\\secret.png"]


def document(**changes):
    """A COCO file with one image; ``changes`` go into the record that has the key, by "kind.key"."""
    found = {
        "images": {"id": 1, "file_name": "a.png", "width": SIDE, "height": SIDE},
        "categories": {"id": 7, "name": "cat"},
        "annotations": {
            "id": 3,
            "image_id": 1,
            "category_id": 7,
            "bbox": [1, 1, 4, 4],
            "segmentation": [[1, 1, 5, 1, 5, 5]],
        },
    }
    for place, value in changes.items():
        kind, _, key = place.partition("__")
        found[kind][key] = value
    return {kind: [record] for kind, record in found.items()}


@pytest.fixture
def pictures(tmp_path):
    draw(tmp_path / "images/a.png")
    draw(tmp_path / "secret.png")
    return tmp_path / "images"


@pytest.fixture
def coco(pictures, tmp_path):
    def read(text, **options):
        path = write(tmp_path / "a.json", text if isinstance(text, str) else json.dumps(text))
        return CocoSamples(pictures, path, SIDE, **options)

    return read


def table(folder, *rows, header="patientId,x,y,width,height,Target"):
    return write(folder / "table.csv", "\n".join((header, *rows)) + "\n")


class TestNamesThatLeaveTheFolder:
    @pytest.mark.parametrize("name", [*OUTSIDE, "/etc/passwd", "//host/x"])
    def test_coco(self, coco, name):
        text = message(ValueError, lambda: coco(document(images__file_name=name)))
        assert text.startswith("image 1 of '")
        assert "which is not below its folder" in text
        assert "allow_outside=True (--allow-outside)" in text

    def test_coco_on_request(self, coco, pictures):
        for name in ("../secret.png", str(pictures.parent / "secret.png")):
            (sample,) = coco(document(images__file_name=name), allow_outside=True)
            assert sample.identifier == f"{name}/cat"

    @pytest.mark.parametrize("name", [*OUTSIDE, "/etc/passwd"])
    def test_tables(self, tmp_path, name):
        draw(tmp_path / "table/a.png")
        text = message(ValueError, lambda: BoxTableSamples(tmp_path, table(tmp_path, f"{name},1,1,2,2,1")))
        assert f"line 2 of '{tmp_path}/table.csv' names the image" in text
        assert "not below its folder" in text
        path = table(tmp_path / "table", f"{name},cat", header="path,label")
        assert "not below its folder" in message(ValueError, lambda: LabelledImages.from_csv(path))

    def test_tables_on_request(self, tmp_path):
        folder = draw(tmp_path / "images/a.png").parent
        secret = draw(tmp_path / "secret.png")
        for name in ("../secret.png", str(secret)):
            path = table(folder, f"{name},1,1,2,2,1")
            assert len(BoxTableSamples(folder, path, SIDE, allow_outside=True)) == 1
            path = table(folder, f"{name},cat", header="path,label")
            assert LabelledImages.from_csv(path, allow_outside=True).files == (folder / name,)

    def test_lists(self, tmp_path):
        draw(tmp_path / "voc/JPEGImages/a.jpg")
        draw(tmp_path / "secret.jpg")
        write(tmp_path / "voc/Annotations/../../secret.xml", pascal_xml(("cat", (1, 1, 2, 2))))
        write(tmp_path / "voc/ImageSets/Main/test.txt", "../../secret\n")
        text = message(ValueError, lambda: VOCSamples(tmp_path / "voc"))
        assert text.endswith(
            "names the image '../../secret.jpg', which is not below its folder; use a path relative to that folder."
        )

    def test_links_are_followed(self, coco, pictures):
        (pictures / "b.png").symlink_to(pictures.parent / "secret.png")
        (pictures / "more").symlink_to(pictures.parent)
        for name in ("b.png", "more/secret.png"):
            assert len(coco(document(images__file_name=name))) == 1

    @pytest.mark.parametrize("name", ["a\0b.png", "x" * 300, "\ud800.png", "y/" * 5000])
    def test_names_that_no_file_can_have(self, coco, name):
        text = message(FileNotFoundError, lambda: coco(document(images__file_name=name)))
        assert len(text) <= 500
        assert text.isprintable()


class TestNumbers:
    @pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), "1", None, True, [1], {}])
    def test_boxes_and_polygons_of_no_numbers(self, coco, value):
        text = message(ValueError, lambda: coco(document(annotations__bbox=[1, 1, value, 4])))
        assert text.startswith("annotation 3 of '")
        changed = document(annotations__segmentation=[[1, 1, 5, 1, value, 5]])
        assert "has the polygon" in message(ValueError, lambda: coco(changed, regions="polygons"))

    @pytest.mark.parametrize("key", ["annotations__image_id", "annotations__category_id", "images__id", "categories__id"])
    @pytest.mark.parametrize("value", [None, True, "", [1], {}, float("nan")])
    def test_ids(self, coco, key, value):
        assert "expected a number" in message(ValueError, lambda: coco(document(**{key: value})))

    @pytest.mark.parametrize("value", [[0], 2, -1, "no"])
    def test_crowds_are_0_or_1(self, coco, value):
        assert "has the iscrowd" in message(ValueError, lambda: coco(document(annotations__iscrowd=value)))

    @pytest.mark.parametrize("value", [str(SIDE + 1), "wide", 12.5, [1], True, 10**400])
    def test_sizes(self, coco, value):
        found = message(ValueError, lambda: list(coco(document(images__width=value))))
        assert "pixels" in found
        assert len(found) <= 500

    @pytest.mark.parametrize("key", ["images__file_name", "categories__name"])
    @pytest.mark.parametrize("value", [None, 1, [], {}, "", float("nan")])
    def test_names_are_text(self, coco, key, value):
        assert "expected a text" in message(ValueError, lambda: coco(document(**{key: value})))

    def test_a_box_that_reaches_beyond_all_numbers_is_cut_off(self, coco):
        (sample,) = coco(document(annotations__bbox=[6, 6, 1.7e308, 1.7e308]))
        assert sample.mask[0].nonzero().min() == 6
        assert sample.mask.sum() == 36

    def test_a_box_beyond_all_numbers_lies_outside(self, coco):
        with pytest.raises(ValueError, match="lies outside its image"):
            list(coco(document(annotations__bbox=[1.7e308, 0, 1.7e308, 4])))

    def test_polygons_beyond_every_image(self, coco):
        changed = document(annotations__segmentation=[[0, 0, 1e308, 0, 0, -1e308]])
        assert "reaches too far for any image" in message(ValueError, lambda: coco(changed, regions="polygons"))
        far = document(annotations__segmentation=[[6, -1e8, 1e8, -1e8, 1e8, 1e8, 6, 1e8]])
        (sample,) = coco(far, regions="polygons")
        assert sample.mask.sum() == 6 * SIDE

    @pytest.mark.parametrize("depth", [500, 900, 5_000, 100_000])
    def test_nesting(self, coco, depth):
        nested = "[" * depth + "]" * depth
        for text in (nested, json.dumps(document()).replace("[1, 1, 4, 4]", nested)):
            assert len(message(ValueError, lambda text=text: coco(text))) <= 500

    def test_integers_of_more_digits_than_python_reads(self, coco):
        text = json.dumps(document()).replace("[1, 1, 4, 4]", f"[1, 1, {'9' * 5000}, 4]")
        assert "cannot be read as JSON" in message(ValueError, lambda: coco(text))

    def test_a_polygon_of_a_million_corners_takes_little_memory(self):
        angles = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
        corners = np.stack([500 + 400 * np.cos(angles), 500 + 400 * np.sin(angles)], 1).ravel().tolist()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mask = polygon_mask([corners], "x", None, Path("x"), torch.zeros(3, 1000, 1000))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert abs(mask.sum().item() / (np.pi * 400**2) - 1) < 1e-3
        assert grown < 500_000  # KB; the pairs of all edges and rows take 1 GB


class TestTables:
    @pytest.mark.parametrize(
        "label", ["1000000000", "9" * 400, "9" * 5000, "100000", "-1", "0.5", "nan", "inf", "1e3", "1_0"]
    )
    def test_labels_that_are_no_class_numbers(self, tmp_path, label):
        """A billion classes took 8.7 GB."""
        draw(tmp_path / "a.png")
        path = table(tmp_path, "a,1,1,2,2,0", f"a,1,1,2,2,{label}")
        text = message(ValueError, lambda: BoxTableSamples(tmp_path, path))
        assert "has the label" in text
        assert len(text) <= 500

    def test_with_classes_any_label_will_do(self, tmp_path):
        draw(tmp_path / "a.png")
        data = BoxTableSamples(
            tmp_path, table(tmp_path, "a,1,1,2,2,-1", "a,1,1,2,2,1000000000"), classes=["-1", "1000000000"]
        )
        assert sorted(sample.target for sample in data) == [0, 1]
        assert BoxTableSamples(tmp_path, table(tmp_path, "a,1,1,2,2,99999")).classes[-1] == "99999"
        assert BoxTableSamples(tmp_path, table(tmp_path, "a,1,1,2,2,nan", "a,1,1,2,2,rice")).classes == ("nan", "rice")

    def test_two_columns_of_one_name(self, tmp_path):
        path = table(tmp_path, "a,b,c", header="path,label,label")
        text = message(ValueError, lambda: LabelledImages.from_csv(path))
        assert text == f"table '{path}' has 2 columns 'label'; give each a name of its own."

    def test_many_classes_are_found_at_once(self, tmp_path):
        """Each look-up went through all classes: 20,000 folders of a picture each took minutes."""
        names = [f"{number:05}" for number in range(20_000)]
        draw(tmp_path / "a.png")
        path = table(tmp_path, *(f"a.png,{name}" for name in names), header="path,label")
        data = LabelledImages.from_csv(path)
        assert data.labels[-1] == (19_999,)
        assert sum(data.counts().values()) == 20_000


class TestXml:
    @pytest.fixture
    def read(self, tmp_path):
        draw(tmp_path / "voc/JPEGImages/a.jpg")
        write(tmp_path / "voc/ImageSets/Main/test.txt", "a\n")

        def put(text):
            path = write(tmp_path / "voc/Annotations/a.xml", "")
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            return VOCSamples(tmp_path / "voc", size=SIDE)

        return put

    def test_entities_are_refused(self, read):
        entity = '<!DOCTYPE a [<!ENTITY x "' + "y" * 10_000 + '">]>'
        text = message(ValueError, lambda: read(entity + pascal_xml(("&x;" * 1000, (1, 1, 2, 2)))))
        assert "it has a DOCTYPE, which annotations do not need" in text
        wide = '<?xml version="1.0" encoding="utf-16"?>' + entity + pascal_xml(("cat", (1, 1, 2, 2)))
        assert "DOCTYPE" in message(ValueError, lambda: read(wide.encode("utf-16")))

    @pytest.mark.parametrize("value", ["1_0", "nan", "inf", "1e400", "9" * 5000, "\u202e1"])
    def test_numbers(self, read, value):
        text = message(ValueError, lambda: read(pascal_xml(("cat", (value, 1, 2, 2)))))
        assert "expected a number" in text
        assert len(text) <= 500
        assert text.isprintable()

    def test_nesting(self, read):
        assert len(message(ValueError, lambda: read("<annotation>" * 100_000))) <= 500
        assert len(message(ValueError, lambda: read("<a>" * 50_000 + "</a>" * 50_000))) <= 500


WORST = [
    *(
        None,
        True,
        0,
        -1,
        2**63,
        10**400,
        1e308,
        -1e308,
        float("nan"),
        float("inf"),
        "",
        "1",
        "nan",
        "../a.png",
        "/etc/passwd",
    ),
    *(
        "C:\\a",
        "a\0b",
        "\ud800",
        "\u202e",
        "x" * 300,
        "x" * 100_000,
        [],
        {},
        [[]],
        [None],
        [1] * 7,
        [[1, 1, 4, 4]],
        [1e308] * 4,
    ),
]
CELLS = [
    "",
    "nan",
    "inf",
    "-1",
    "1e308",
    "1e400",
    "9" * 5000,
    "1000000000",
    "²",
    "٣",
    "0.5",
    "../a",
    "a\0",
    "\x1b[2J",
    "x" * 200_000,
]
CELLS += ['"', "a,b", "\n", "|||", "train", "1_0", "C:\\a", "/etc/passwd", "\u202e"]
TEXTS = [
    "",
    "nan",
    "-1",
    "1e308",
    "1e400",
    "9" * 5000,
    "x" * 10_000,
    "1_0",
    "dog",
    "0.5",
    "../..",
    "\u202e",
    "0",
    "13",
    "cat",
    "٣",
]


def _places(value, place=()):
    yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _places(value[key], (*place, key))


def damaged_json(choose):
    found = copy.deepcopy(document())
    for _ in range(choose.choice([1, 1, 2, 3])):
        *way, last = choose.choice([place for place in _places(found) if place])
        value = found
        for key in way:
            value = value[key]
        value[last] = copy.deepcopy(choose.choice(WORST))
    return json.dumps(found).encode()


def damaged_csv(choose, rows):
    rows = [list(row) for row in rows]
    for _ in range(choose.choice([1, 1, 2, 4])):
        row = choose.choice(rows)
        if row and choose.random() < 0.9:
            row[choose.randrange(len(row))] = choose.choice(CELLS)
        else:
            row[:1] = []
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def damaged_xml(choose):
    root = ElementTree.fromstring(pascal_xml(("cat", (1, 1, 5, 6)), ("cat", (2, 2, 4, 4))))
    for _ in range(choose.choice([1, 1, 2, 3])):
        parent, child = choose.choice([(parent, child) for parent in root.iter() for child in parent])
        kind = choose.randrange(5)
        if kind < 3:
            child.text = choose.choice(TEXTS)
        elif kind == 3:
            parent.remove(child)
        else:
            parent.append(copy.deepcopy(child))
    return ElementTree.tostring(root)


def outcome(make, folder):
    """Whether samples are right; else the message has to name the file, and be short."""
    try:
        data = make()
        for index in range(len(data)):
            sample = data[index]
            if isinstance(data, LabelledImages):
                continue
            assert sample.image.shape == (3, SIDE, SIDE)
            assert 0 <= sample.target < len(data.classes)
            assert sample.mask is None or sample.mask.any()
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        assert type(error) in (ValueError, FileNotFoundError), repr(error)  # noqa: PT017 (subclasses tell of no file)
        assert len(text) <= 500
        assert text.isprintable()
        general = text.startswith(("binary needs two classes", "2 samples are called"))
        assert general or str(folder) in text, text
        return "words"
    return "sample"


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestMutations:
    """Seeded; the same with thousands of seeds found what the classes above test."""

    @pytest.fixture
    def folder(self, tmp_path):
        draw(tmp_path / "i/a.png")
        draw(tmp_path / "v/JPEGImages/a.jpg")
        draw(tmp_path / "v/Data/CLS-LOC/val/a.JPEG")
        write(tmp_path / "v/ImageSets/Main/test.txt", "a\n")
        write(tmp_path / "v/Annotations/CLS-LOC/val/a.xml", "")
        draw(tmp_path / "p/images/Abyssinian_1.jpg")
        (tmp_path / "p/annotations/trimaps").mkdir(parents=True)
        return tmp_path

    def _all(self, folder, path, contents, make):
        found = set()
        for content in contents:
            path.write_bytes(content)
            found.add(outcome(make, folder))
        assert found == {"words", "sample"}  # a reader that refuses everything would pass, too

    @pytest.mark.parametrize("regions", ["boxes", "polygons"])
    def test_json(self, folder, regions):
        choose, path = random.Random(0), folder / "a.json"
        contents = [damaged_json(choose) for _ in range(150)]
        contents += [damaged(json.dumps(document()).encode(), choose) for _ in range(100)]
        self._all(folder, path, contents, lambda: CocoSamples(folder / "i", path, SIDE, regions=regions))

    def test_csv(self, folder):
        choose, path = random.Random(1), folder / "i/t.csv"
        rows = [
            ["patientId", "x", "y", "width", "height", "Target"],
            ["a", "1", "1", "4", "4", "1"],
            ["a", "", "", "", "", "0"],
        ]
        contents = [damaged_csv(choose, rows) for _ in range(200)]
        self._all(folder, path, contents, lambda: BoxTableSamples(folder / "i", path, SIDE))
        rows = [["Path", "Sex", "Edema", "Fracture"], ["a.png", "Male", "1.0", "-1.0"], ["b", "Female", "", "1"]]
        contents = [damaged_csv(choose, rows) for _ in range(200)]
        draw(folder / "i/b.png")
        self._all(folder, path, contents, lambda: LabelTableSamples(folder / "i", path, size=SIDE))
        rows = [["path", "label", "split"], ["a.png", "x", "train"], ["a.png", "y", "val"]]
        contents = [damaged_csv(choose, rows) for _ in range(200)]
        self._all(folder, path, contents, lambda: LabelledImages.from_csv(path))

    def test_xml(self, folder):
        choose, path = random.Random(2), folder / "v/Annotations/a.xml"
        contents = [damaged_xml(choose) for _ in range(150)]
        contents += [damaged(damaged_xml(choose), choose) for _ in range(50)]
        self._all(folder, path, contents, lambda: VOCSamples(folder / "v", size=SIDE))
        path = folder / "v/Annotations/CLS-LOC/val/a.xml"
        self._all(folder, path, contents, lambda: ImageNetSamples(folder / "v", SIDE, ["cat", "dog"]))

    def test_lists(self, folder):
        choose, path = random.Random(3), folder / "p/annotations/test.txt"
        trimap = np.full((SIDE, SIDE), 2, np.uint8)
        trimap[2:5, 2:5] = 1
        Image.fromarray(trimap).save(folder / "p/annotations/trimaps/Abyssinian_1.png")
        contents = [damaged(b"Abyssinian_1 1 1 1\n", choose) for _ in range(100)] + [b"Abyssinian_1 1 1 1\n"]
        self._all(folder, path, contents, lambda: OxfordPetSamples(folder / "p", size=SIDE))
