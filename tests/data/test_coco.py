"""COCO's object detection: one JSON file and a folder of images."""

import json
import pickle
import re

import pytest
from image_files import SIDE, block, draw, message, same, warned, write

from captum_softcam.data import CocoSamples

USE = "use regions='boxes' (--regions boxes)"
CROWD = {"counts": [30, 20, 94], "size": [SIDE, SIDE]}


def image(number, **more):
    return {"id": number, "file_name": f"{number:012}.jpg", "width": SIDE, "height": SIDE} | more


def note(number, image_id, category, bbox, polygons=None, **more):
    record = {"id": number, "image_id": image_id, "category_id": category, "bbox": bbox, "area": 4, "iscrowd": 0}
    return record | {"segmentation": polygons or [[0, 0, 4, 0, 4, 4, 0, 4]]} | more


@pytest.fixture
def document():
    """Ids with gaps and out of order, as in the real file; image 9 has no objects and image 7 a crowd alone."""
    return {
        "info": {},
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "images": [image(42), image(7), image(9), image(8)],
        "annotations": [
            note(1, 8, 18, [2.5, 3, 2, 1.5]),
            note(2, 42, 90, [0, 0, 3, 2], [[1, 1, 5, 1, 5, 3, 1, 3], [8, 8, 10, 8, 10, 10, 8, 10]]),
            note(3, 42, 1, [9, 9, 7, 7]),
            note(4, 42, 90, [4, 4, 1, 1], [[0, 11, 1, 11, 1, 12, 0, 12]]),
            note(5, 7, 1, [0, 0, 5, 5], CROWD, iscrowd=1),
            note(6, 42, 1, [0, 0, 5, 5], CROWD, iscrowd=1),
        ],
    }


@pytest.fixture
def save(tmp_path):
    """Puts a document into the real layout and gives the two paths."""

    def put(document):
        for entry in document["images"]:
            draw(tmp_path / "val2017" / entry.get("file_name", "x.jpg"))
        return tmp_path / "val2017", write(tmp_path / "annotations/instances_val2017.json", json.dumps(document))

    return put


def masks(*paths, **options):
    return {sample.identifier[10:]: sample.mask for sample in CocoSamples(*paths, size=SIDE, **options)}


class TestReading:
    def test_one_for_every_image_and_category_in_turn(self, document, save):
        data = CocoSamples(*save(document), size=SIDE)
        want = [
            ("000000000042.jpg/person", 0),
            ("000000000008.jpg/dog", 1),
            ("000000000042.jpg/toothbrush", 2),
        ]
        assert [(sample.identifier, sample.target) for sample in data] == want
        assert data.classes == ("person", "dog", "toothbrush")
        assert len(data) == data.masked == 3
        assert data[0].image.shape == (3, SIDE, SIDE)

    def test_order_is_that_of_the_images(self, document, save):
        document["annotations"] = [note(i, number, 18, [0, 0, 1, 1]) for i, number in enumerate((8, 9, 42, 7))]
        assert list(masks(*save(document))) == ["42.jpg/dog", "07.jpg/dog", "09.jpg/dog", "08.jpg/dog"]

    def test_samples_of_an_image_share_group_and_labels(self, document, save):
        document["annotations"].append(note(7, 8, 90, [0, 0, 5, 5], CROWD, iscrowd=1))
        data = CocoSamples(*save(document), size=SIDE)
        first = "000000000042.jpg"
        assert [(sample.group, sample.labels, sample.undecided) for sample in data] == [
            (first, (0, 2), ()),  # a person beside a crowd of persons
            ("000000000008.jpg", (1,), (2,)),
            (first, (0, 2), ()),
        ]
        assert data.groups == [sample.group for sample in data]
        assert CocoSamples(*save(document), classes=["dog", "person", "toothbrush"])[0].undecided == (2,)

    def test_boxes(self, document, save):
        found = masks(*save(document))
        assert same(found["08.jpg/dog"], block((3, 5, 2, 5)))
        assert same(found["42.jpg/toothbrush"], block((0, 2, 0, 3), (4, 5, 4, 5)))
        assert same(found["42.jpg/person"], block((9, 12, 9, 12)))

    def test_polygons(self, document, save):
        found = masks(*save(document), regions="polygons")
        assert same(found["42.jpg/toothbrush"], block((1, 3, 1, 5), (8, 10, 8, 10), (11, 12, 0, 1)))
        assert same(found["08.jpg/dog"], block((0, 4, 0, 4)))

    def test_classes_of_the_model(self, document, save):
        data = CocoSamples(*save(document), classes=["cat", "dog", "person", "toothbrush"])
        assert [sample.target for sample in data] == [1, 2, 3]

    def test_files_in_folders_and_without_sizes(self, document, save):
        document["images"][0] = {"id": 42, "file_name": "sub/a.png"}
        assert "sub/a.png/person" in [sample.identifier for sample in CocoSamples(*save(document))]

    def test_it_can_go_to_another_process(self, document, save):
        data = CocoSamples(*save(document), size=SIDE, regions="polygons")
        assert same(pickle.loads(pickle.dumps(data))[1].mask, data[1].mask)


class TestOtherTools:
    """What VIA, Roboflow, Label Studio and pandas write."""

    def test_ids_are_compared_as_texts(self, document, save):
        document["annotations"][0] |= {"image_id": "8", "category_id": 18.0}
        document["categories"][0]["id"] = "90"
        assert list(masks(*save(document))) == ["42.jpg/person", "08.jpg/dog", "42.jpg/toothbrush"]
        document["images"][0]["id"] = "8"
        images, path = save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == f"'{path}' has two images with the id 8."

    @pytest.mark.parametrize(
        ("value", "count"), [("0", 3), (False, 3), ("false", 3), (0.0, 3), ("1", 2), (True, 2), (1.0, 2)]
    )
    def test_crowds(self, document, save, value, count):
        document["annotations"][0]["iscrowd"] = value
        assert len(CocoSamples(*save(document))) == count

    @pytest.mark.parametrize("sides", [(str(SIDE), f"{SIDE}.0"), (-1, -1), (0, SIDE), ("", None), (12.0, 12)])
    def test_sizes(self, document, save, sides):
        document["images"][0] |= dict(zip(("width", "height"), sides, strict=True))
        assert same(masks(*save(document))["42.jpg/person"], block((9, 12, 9, 12)))

    def test_a_size_that_is_stated_is_compared(self, document, save):
        document["images"][0]["width"] = "640"
        data = CocoSamples(*save(document))
        assert "is for an image of 640x12 pixels" in message(ValueError, lambda: data[0])

    def test_two_categories_of_one_name(self, document, save):
        document["categories"].append({"id": 0, "name": "dog"})
        document["annotations"].append(note(7, 8, 0, [9, 9, 1, 1]))
        images, path = save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == (
            f"'{path}' has 2 categories called 'dog', with the ids 0, 18; pass classes, in the order of the model's logits "
            "(--classes), to take them as one."
        )
        merged = masks(images, path, classes=["person", "dog", "toothbrush"])
        assert same(merged["08.jpg/dog"], block((3, 5, 2, 5), (9, 10, 9, 10)))
        text = message(ValueError, lambda: CocoSamples(images, path, classes=["person", "dog", "toothbrush", "dog"]))
        assert text == f"category 0 of '{path}' has the class 'dog', the name of several classes; pass each name once."

    def test_no_box_but_polygons(self, document, save):
        del document["annotations"][0]["bbox"]
        document["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 3], [0, 7, 1, 7, 1, 8]]
        assert same(masks(*save(document))["08.jpg/dog"], block((1, 8, 0, 5)))

    def test_four_zeros_are_nothing_to_localise(self, document, save):
        document["annotations"][0]["bbox"] = [0, 0, 0, 0]
        document["annotations"][1]["bbox"] = [0, 0.0, 0, 0]
        found = masks(*save(document))
        assert found["08.jpg/dog"] is None
        assert same(found["42.jpg/toothbrush"], block((4, 5, 4, 5)))

    def test_what_is_left_out_is_counted(self, document, save):
        data = CocoSamples(*save(document))
        assert data.found.files == 4
        assert data.found.left_out == {"only crowds": ["000000000007.jpg"], "no annotation": ["000000000009.jpg"]}


class TestFiles:
    def test_missing(self, document, save, tmp_path):
        images, path = save(document)
        text = message(FileNotFoundError, lambda: CocoSamples(tmp_path / "no", path))
        assert text == f"image folder '{tmp_path}/no' is not a directory."
        text = message(FileNotFoundError, lambda: CocoSamples(images, tmp_path / "no.json"))
        assert text == f"annotation file '{tmp_path}/no.json' is not a file."
        (images / "000000000008.jpg").unlink()
        words = f"image 8 of '{path}' names the image '000000000008.jpg', which is not in '{images}', with any ending."
        data = warned(words, lambda: CocoSamples(images, path))
        assert [sample.identifier[10:] for sample in data] == ["42.jpg/person", "42.jpg/toothbrush"]
        assert data.found.left_out["no such image"] == ["000000000008.jpg"]
        (images / "000000000042.jpg").unlink()
        assert message(FileNotFoundError, lambda: CocoSamples(images, path)).startswith("image 42 of '")

    @pytest.mark.parametrize(
        ("content", "words"),
        [(b'{"images":\n [1,}', "line 2 column 5"), (b"", "line 1"), (b"\xff{}\x80", "codec can't decode")],
    )
    def test_no_json(self, document, save, content, words):
        images, path = save(document)
        path.write_bytes(content)
        text = message(ValueError, lambda: CocoSamples(images, path))
        assert re.fullmatch(rf"annotations '{path}' cannot be read as JSON \(.*{words}.*\)\.", text)

    @pytest.mark.parametrize("content", ["[]", '{"images": []}', '{"images": [], "annotations": {}}', "1"])
    def test_another_format(self, document, save, content):
        images, path = save(document)
        path.write_text(content)
        text = message(ValueError, lambda: CocoSamples(images, path))
        assert re.fullmatch(rf"annotations '{path}' have no list '\w+'; expected COCO's format for object detection\.", text)

    def test_regions(self, document, save):
        text = message(ValueError, lambda: CocoSamples(*save(document), regions="polygon"))
        assert text == "regions 'polygon' is unknown. Closest: 'polygons'."


class TestRecords:
    """What can be wrong with one entry; every message ends with the name of the file or with a way out."""

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"bbox": [1, 2, 3]}, "annotation 1 of '{path}' has the bbox [1, 2, 3]; expected [x, y, width, height]."),
            (
                {"bbox": [1, 2, -3, 1]},
                "annotation 1 of '{path}' has the bbox [1, 2, -3, 1]; expected [x, y, width, height].",
            ),
            ({"bbox": "1 2 3 4"}, "annotation 1 of '{path}' has the bbox '1 2 3 4'; expected [x, y, width, height]."),
            (
                {"bbox": [1, 2, float("nan"), 1]},
                "annotation 1 of '{path}' has the bbox [1, 2, nan, 1]; expected [x, y, width, height].",
            ),
            ({"image_id": 5}, "annotation 1 of '{path}' belongs to the image 5, which the file does not list."),
        ],
    )
    def test_one_bad_annotation_leaves_out_its_sample(self, document, save, changes, words):
        document["annotations"][0] |= changes
        images, path = save(document)
        data = warned(words.format(path=path), lambda: CocoSamples(images, path))
        assert [sample.identifier[10:] for sample in data] == ["42.jpg/person", "42.jpg/toothbrush"]
        assert ["annotation 1"] in data.found.left_out.values()
        document["annotations"] = document["annotations"][:1]
        save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == words.format(path=path)

    def test_the_class_of_a_bad_annotation_is_one_that_the_image_shows(self, document, save):
        document["annotations"][1]["bbox"] = []
        data = warned("annotation 2 of", lambda: CocoSamples(*save(document)))
        assert [(sample.identifier[10:], sample.labels) for sample in data] == [
            ("42.jpg/person", (0, 2)),
            ("08.jpg/dog", (1,)),
        ]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"image_id": [8]}, "annotation 1 of '{path}' has the image_id [8]; expected a number."),
            ({"category_id": 2}, "annotation 1 of '{path}' belongs to the category 2, which the file does not list."),
        ],
    )
    def test_an_annotation_of_nothing(self, document, save, changes, words):
        document["annotations"][0] |= changes
        images, path = save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == words.format(path=path)

    @pytest.mark.parametrize("name", ["image_id", "category_id"])
    def test_annotation_without(self, document, save, name):
        del document["annotations"][0][name]
        images, path = save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == f"annotation 1 of '{path}' has no '{name}'."

    @pytest.mark.parametrize(
        ("segmentation", "words"),
        [
            (CROWD, "has no polygons, because its segmentation is run-length encoded; {use}."),
            ([], "has no polygons, because its segmentation is empty; {use}."),
            ([[1, 1, 4, 4]], "has the polygon [1, 1, 4, 4]; expected [x1, y1, x2, y2, x3, y3, …], or {use}."),
            (
                [[1, 1, 4, 4, 1, 1, 5]],
                "has the polygon [1, 1, 4, 4, 1, 1, 5]; expected [x1, y1, x2, y2, x3, y3, …], or {use}.",
            ),
        ],
    )
    def test_polygons(self, document, save, segmentation, words):
        document["annotations"][0]["segmentation"] = segmentation
        images, path = save(document)
        words = f"annotation 1 of '{path}' {words.replace('{use}', USE)}"
        assert len(warned(words, lambda: CocoSamples(images, path, regions="polygons"))) == 2
        assert len(CocoSamples(images, path)) == 3

    def test_images_and_categories(self, document, save):
        del document["images"][0]["file_name"]
        images, path = save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == f"image 42 of '{path}' has no 'file_name'."
        del document["categories"][1]["name"]
        save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == f"category 1 of '{path}' has no 'name'."
        document["images"][1]["id"] = 42
        save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == f"'{path}' has two images with the id 42."
        del document["images"][1]["id"]
        save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)) == f"entry 1 of the images in '{path}' has no 'id'."

    def test_a_file_named_twice(self, document, save):
        document["images"][0]["file_name"] = "000000000008.jpg"
        document["annotations"][0]["category_id"] = 1
        text = message(ValueError, lambda: CocoSamples(*save(document)))
        assert text == "2 samples are called '000000000008.jpg/person'; give each a name of its own."

    def test_unknown_class(self, document, save):
        images, path = save(document)
        text = message(ValueError, lambda: CocoSamples(images, path, classes=["person", "toothbrush"]))
        assert text == f"category 18 of '{path}' has the unknown class 'dog'. Known: 'person', 'toothbrush'."

    def test_nothing_left(self, document, save):
        document["annotations"] = document["annotations"][-2:]
        images, path = save(document)
        text = message(ValueError, lambda: CocoSamples(images, path))
        assert text == f"annotations '{path}' have no object that is not a crowd."

    def test_outside(self, document, save):
        document["annotations"] = [note(1, 42, 1, [12, 0, 3, 3], [[12.5, 0, 14, 0, 14, 3]])]
        images, path = save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)[0]) == (
            f"image 42 of '{path}': the box with the edges left 12, top 0, right 15, bottom 3 lies outside its image of "
            "12x12 pixels."
        )
        assert message(ValueError, lambda: CocoSamples(images, path, regions="polygons")[0]) == (
            f"image 42 of '{path}': the polygon from (12.5, 0) lies outside its image of 12x12 pixels."
        )

    def test_another_size(self, document, save):
        document["images"][0]["width"] = 640
        images, path = save(document)
        assert message(ValueError, lambda: CocoSamples(images, path)[0]) == (
            f"image 42 of '{path}' is for an image of 640x12 pixels, its image has 12x12; its regions would be misplaced."
        )
