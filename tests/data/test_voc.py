"""PASCAL VOC in the layout of VOCdevkit."""

import pickle
import re

import pytest
import torch
from image_files import SIDE, block, draw, message, pascal_xml, same, warned, write

from captum_softcam.data import Sample, VOCSamples


def add(root, name, *objects, **options):
    draw(root / f"JPEGImages/{name}.jpg")
    return write(root / f"Annotations/{name}.xml", pascal_xml(*objects, **options))


@pytest.fixture
def root(tmp_path):
    """Two cats and a dog in the first image, a difficult cat in the second and beside another in the third."""
    root = tmp_path / "VOCdevkit/VOC2007"
    add(root, "000001", ("dog", (1, 1, 2, 3)), ("cat", (5, 5, 5, 5)), ("cat", (8, 9, SIDE, SIDE)))
    add(root, "000002", ("cat", (1, 1, 4, 4), True), ("person", (3, 3, 4, 4)))
    add(root, "000003", ("cat", (1, 1, 4, 4), True), ("cat", (4, 4, 6, 6), False))
    write(root / "ImageSets/Main/test.txt", "000001\n000002\n000003\n")
    write(root / "ImageSets/Main/val.txt", "000003\n\n")
    return root


def samples(root, **options):
    return {sample.identifier: sample for sample in VOCSamples(root, size=SIDE, **options)}


class TestReading:
    def test_a_sample(self, root):
        sample = VOCSamples(root, size=20)[0]
        assert isinstance(sample, Sample)
        assert (sample.image.shape, sample.image.dtype) == ((3, 20, 20), torch.float32)
        assert (sample.mask.shape, sample.mask.dtype) == ((1, 20, 20), torch.bool)

    def test_one_for_every_image_and_class_in_turn(self, root):
        data = VOCSamples(root, size=SIDE)
        want = [("000001/cat", 7), ("000001/dog", 11), ("000002/person", 14), ("000003/cat", 7)]
        assert [(sample.identifier, sample.target) for sample in data] == want
        assert len(data) == data.masked == 4
        assert len(data.classes) == 20
        assert list(data.classes) == sorted(data.classes)

    def test_corners_count_from_one_and_belong_to_the_box(self, root):
        found = samples(root)
        assert same(found["000001/dog"].mask, block((0, 3, 0, 2)))
        assert same(found["000001/cat"].mask, block((4, 5, 4, 5), (8, 12, 7, 12)))

    def test_difficult_objects_are_no_target(self, root):
        assert same(samples(root)["000003/cat"].mask, block((3, 6, 3, 6)))
        assert "000002/cat" not in samples(root)

    def test_samples_of_an_image_share_group_and_labels(self, root):
        add(root, "000003", ("cat", (1, 1, 4, 4), True), ("cat", (4, 4, 6, 6), False), ("dog", (1, 1, 2, 2), True))
        data = VOCSamples(root, size=SIDE)
        assert [(sample.group, sample.labels, sample.undecided) for sample in data] == [
            ("000001", (7, 11), ()),
            ("000001", (7, 11), ()),
            ("000002", (14,), (7,)),  # its cat is difficult: VOC's own lists mark it by 0, neither 1 nor -1
            ("000003", (7,), (11,)),
        ]
        assert data.groups == [sample.group for sample in data]

    def test_difficult_objects_beside_others(self, root):
        found = samples(root, include_difficult=True)
        assert same(found["000003/cat"].mask, block((0, 4, 0, 4), (3, 6, 3, 6)))
        assert "000002/cat" not in found

    def test_another_split_and_other_classes(self, root):
        data = VOCSamples(root, "val", classes=["dog", "cat"])
        assert [(sample.identifier, sample.target) for sample in data] == [("000003/cat", 1)]

    def test_parts_of_a_body_are_no_objects(self, root):
        path = add(root, "000003", ("person", (1, 1, 4, 4)))
        part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
        path.write_text(path.read_text().replace("</bndbox>", f"</bndbox>{part}"))
        assert same(samples(root, split="val")["000003/person"].mask, block((0, 4, 0, 4)))

    def test_beyond_the_border_and_fractions(self, root):
        add(root, "000003", ("cat", (0, 10.6, 3.2, 40)), size=None)
        assert same(samples(root, split="val")["000003/cat"].mask, block((9, 12, 0, 4)))

    def test_small_boxes_survive_shrinking(self, root):
        draw(root / "JPEGImages/000003.jpg", 400, 100)
        write(root / "Annotations/000003.xml", pascal_xml(("cat", (202, 51, 202, 51)), size=(400, 100)))
        assert same(VOCSamples(root, "val", size=10)[0].mask, block((5, 6, 5, 6), size=(10, 10)))

    def test_it_can_go_to_another_process(self, root):
        data = VOCSamples(root, size=SIDE)
        assert same(pickle.loads(pickle.dumps(data))[1].mask, data[1].mask)


class TestAsItLies:
    """What own pictures in this layout have that the original has not."""

    @pytest.mark.parametrize("ending", [".png", ".JPG", ".jpeg"])
    def test_pictures_of_any_ending(self, root, ending):
        (root / "JPEGImages/000001.jpg").unlink()
        draw(root / f"JPEGImages/000001{ending}")
        assert samples(root)["000001/dog"].image.shape == (3, SIDE, SIDE)

    def test_names_with_spaces_and_marks(self, root):
        """A list of one class has a second column; a name may end like one."""
        add(root, "my cat 1", ("cat", (1, 1, 2, 2)))
        write(root / "ImageSets/Main/cat_test.txt", "000001  1\n000002  0\n000003 -1\nmy cat 1  1\n")
        data = VOCSamples(root, "cat_test")
        assert [sample.identifier for sample in data] == ["000001/cat", "000001/dog", "000002/person", "my cat 1/cat"]
        assert data.found.left_out == {"not of the class of the list": ["000003"]}
        write(root / "ImageSets/Main/val.txt", "my cat 1\n")
        assert list(samples(root, split="val")) == ["my cat 1/cat"]

    def test_without_lists(self, root):
        for file in (root / "ImageSets/Main").iterdir():
            file.unlink()
        assert "is not a file" in message(FileNotFoundError, lambda: VOCSamples(root))
        (root / "ImageSets/Main").rmdir()
        (root / "Annotations/._000001.xml").touch()
        data = warned("has no lists in ImageSets/Main; all images with annotations are read.", lambda: VOCSamples(root))
        assert len(data) == 4
        assert "is not a directory" in message(FileNotFoundError, lambda: VOCSamples(root, "val"))

    def test_one_damaged_annotation(self, root):
        write(root / "Annotations/000001.xml", "<annotation>")
        data = warned(
            "1 left out (unreadable annotation): 000001. The first of them: annotation '", lambda: VOCSamples(root)
        )
        assert [sample.identifier for sample in data] == ["000003/cat", "000002/person"]

    def test_images_without_a_sample_are_counted(self, root):
        add(root, "000001")
        add(root, "000003", ("cat", (1, 1, 4, 4), True))
        data = VOCSamples(root)
        assert data.found.left_out == {"no object": ["000001"], "only difficult objects": ["000003"]}

    @pytest.mark.parametrize(("text", "count"), [("0.0", 1), ("Unspecified", 1), ("", 1), ("1.0", 0), ("True", 0)])
    def test_difficult(self, root, text, count):
        path = add(root, "000003", ("cat", (3, 3, 5, 5)), ("dog", (1, 1, 2, 2)))
        path.write_text(path.read_text().replace("<difficult>0<", f"<difficult>{text}<", 1))
        assert len(VOCSamples(root, "val")) == 1 + count


class TestMessages:
    def test_no_such_folder(self, tmp_path):
        assert (
            message(FileNotFoundError, lambda: VOCSamples(tmp_path / "no"))
            == f"VOC folder '{tmp_path}/no' is not a directory."
        )
        lists = f"folder of lists '{tmp_path}/ImageSets/Main' is not a directory."
        assert message(FileNotFoundError, lambda: VOCSamples(tmp_path)) == lists

    def test_no_such_split(self, root):
        text = message(FileNotFoundError, lambda: VOCSamples(root, "tests"))
        assert text == f"list '{root}/ImageSets/Main/tests.txt' is not a file. Closest: 'test'."

    def test_the_list(self, root):
        path = write(root / "ImageSets/Main/test.txt", "\n")
        assert message(ValueError, lambda: VOCSamples(root)) == f"list '{path}' names no images."
        path.write_bytes(b"\xff\xfe\x00")
        assert re.match(f"list '{path}' cannot be read as text in UTF-8", message(ValueError, lambda: VOCSamples(root)))
        write(path, "000001\n000001\n")
        text = message(ValueError, lambda: VOCSamples(root))
        assert text == "2 samples are called '000001/cat'; give each a name of its own."

    def test_missing_files(self, root):
        (root / "Annotations/000002.xml").unlink()
        words = f"annotation '{root}/Annotations/000002.xml' is not a file."
        data = warned(words, lambda: VOCSamples(root))
        assert {identifier.partition("/")[0] for identifier in (sample.identifier for sample in data)} == {
            "000001",
            "000003",
        }
        assert (data.found.files, data.found.left_out) == (3, {"no annotation": ["000002"]})
        write(root / "ImageSets/Main/val.txt", "000002\n")
        assert message(FileNotFoundError, lambda: VOCSamples(root, "val")) == words
        (root / "JPEGImages/000002.jpg").unlink()
        words = (
            f"line 2 of '{root}/ImageSets/Main/test.txt' names the image '000002.jpg', which is not in '{root}/JPEGImages', "
            "with any ending."
        )
        assert warned(words, lambda: VOCSamples(root)).found.left_out == {"no such image": ["000002"]}

    def test_unknown_class(self, root):
        path = add(root, "000003", ("cart", (1, 1, 2, 2)))
        text = message(ValueError, lambda: VOCSamples(root))
        assert text == f"annotation '{path}' has the unknown class 'cart'. Closest: 'cat', 'car', 'chair'."

    def test_nothing_left(self, root):
        add(root, "000003", ("cat", (1, 1, 2, 2), True))
        text = message(ValueError, lambda: VOCSamples(root, "val"))
        assert text == f"no image of the split 'val' in '{root}' shows an object that is not difficult."

    def test_wholly_outside(self, root):
        path = add(root, "000003", ("cat", (13, 1, 14, 2)))
        data = VOCSamples(root, "val")
        assert message(ValueError, lambda: data[0]) == (
            f"annotation '{path}': the box with the edges left 12, top 0, right 14, bottom 2 lies outside its image of "
            "12x12 pixels."
        )

    def test_for_an_image_of_another_size(self, root):
        path = add(root, "000003", ("cat", (1, 1, 2, 2)), size=(40, 30))
        data = VOCSamples(root, "val")
        assert message(ValueError, lambda: data[0]) == (
            f"annotation '{path}' is for an image of 40x30 pixels, its image has 12x12; its regions would be misplaced."
        )

    def test_size(self, root):
        text = message(ValueError, lambda: VOCSamples(root, size=0))
        assert text == "size is the side of a sample in pixels, at least 1; got 0."


class TestXml:
    """What can be wrong with one annotation."""

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("</object>", "", r"annotation '{path}' cannot be read as XML \(mismatched tag: line 4, column 2\)\."),
            ("annotation>", "html>", r"annotation '{path}' begins with <html>; expected <annotation>\."),
            ("<name>cat</name>", "", r"object 1 of '{path}' has no <name>\."),
            ("bndbox>", "box>", r"object 1 of '{path}' has no <bndbox>\."),
            ("<xmax>5</xmax>", "", r"object 1 of '{path}' has no <xmax>\."),
            ("<xmax>5<", "<xmax>five<", r"object 1 of '{path}' has <xmax>five</xmax>; expected a number\."),
            ("<xmax>5<", "<xmax>nan<", r"object 1 of '{path}' has <xmax>nan</xmax>; expected a number\."),
            ("<xmax>5<", "<xmax>2<", r"object 1 of '{path}' has the corners \(3, 3\) and \(2, 5\); that is not a box\."),
            ("<difficult>0<", "<difficult>x<", r"object 1 of '{path}' has <difficult>x</difficult>; expected 0 or 1\."),
            ("<width>12</width>", "", r"the size in '{path}' has no <width>\."),
        ],
    )
    def test_it_is_named(self, root, old, new, words):
        path = add(root, "000003", ("cat", (3, 3, 5, 5)))
        path.write_text(path.read_text().replace(old, new))
        assert re.fullmatch(words.format(path=path), message(ValueError, lambda: VOCSamples(root, "val")))

    def test_an_unknown_encoding(self, root):
        path = write(root / "Annotations/000003.xml", '<?xml version="1.0" encoding="klingon"?><annotation/>')
        text = message(ValueError, lambda: VOCSamples(root, "val"))
        assert re.fullmatch(rf"annotation '{path}' cannot be read as XML \(.*unknown encoding.*\)\.", text)

    @pytest.mark.parametrize("size", [None, (0, 0), (-1, -1)])
    def test_a_size_that_is_not_known(self, root, size):
        add(root, "000003", ("cat", (3, 3, 5, 5)), size=size)
        assert same(samples(root, split="val")["000003/cat"].mask, block((2, 5, 2, 5)))

    def test_no_word_about_difficulty(self, root):
        path = add(root, "000003", ("cat", (3, 3, 5, 5)))
        path.write_text(path.read_text().replace("<difficult>0</difficult>", ""))
        assert len(VOCSamples(root, "val")) == 1
