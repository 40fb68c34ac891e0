"""ImageNet's validation images and their boxes, in the layout of ILSVRC's localisation task."""

import pytest
from image_files import SIDE, block, draw, message, pascal_xml, same, warned, write

from captum_softcam._imagenet import imagenet_names, wordnet_ids
from captum_softcam.data import ImageNetSamples

TENCH, HEN, RAY = "n01440764", "n01514859", "n01496331"


def add(root, number, *objects, folder="", **options):
    name = f"ILSVRC2012_val_{number:08}"
    draw(root / "Data/CLS-LOC/val" / folder / f"{name}.JPEG")
    return write(root / f"Annotations/CLS-LOC/val/{name}.xml", pascal_xml(*objects, **options))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "ILSVRC"
    add(root, 3, (TENCH, (0, 0, 1, 2)))
    add(root, 1, (HEN, (5, 5, 5, 5)), (HEN, (8, 9, SIDE - 1, SIDE)))
    add(root, 2, (TENCH, (2, 2, 3, 3)))
    return root


def read(root, **options):
    return ImageNetSamples(root, size=SIDE, **{"classes": [TENCH, RAY, HEN]} | options)


class TestReading:
    def test_classes_in_turn(self, root):
        data = read(root)
        want = [(2, 0), (1, 2), (3, 0)]
        assert [(sample.identifier, sample.target) for sample in data] == [
            (f"ILSVRC2012_val_{number:08}", target) for number, target in want
        ]
        assert data.masked == 3
        assert data[0].image.shape == (3, SIDE, SIDE)

    def test_corners_count_from_zero_and_belong_to_the_box(self, root):
        data = read(root)
        assert same(data[2].mask, block((0, 3, 0, 2)))
        assert same(data[1].mask, block((5, 6, 5, 6), (9, 12, 8, 12)))

    def test_images_in_folders_of_classes(self, root):
        (root / "Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG").unlink()
        add(root, 1, (HEN, (5, 5, 5, 5)), folder=HEN)
        assert [sample.target for sample in read(root)] == [0, 2, 0]

    def test_a_part_of_the_images(self, root):
        (root / "Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG").unlink()
        assert len(read(root)) == 2

    @pytest.mark.parametrize("classes", [None, imagenet_names(), wordnet_ids()], ids=["default", "names", "ids"])
    def test_any_part_of_the_thousand_classes_has_its_numbers(self, root, classes):
        data = read(root, classes=classes)
        assert [sample.target for sample in data] == [0, 8, 0]
        assert data.classes == (wordnet_ids() if classes is None else classes)

    @pytest.mark.parametrize("folder", ["..", "Data", "Annotations/CLS-LOC", "Data/CLS-LOC/val"])
    def test_other_folders_of_the_same_data(self, root, folder):
        assert [sample.target for sample in read(root / folder)] == [0, 2, 0]

    def test_classes_by_name(self, root):
        assert [sample.target for sample in read(root, classes=["hen", "tench"])] == [0, 1, 1]


class TestMessages:
    def test_missing(self, root, tmp_path):
        text = message(FileNotFoundError, lambda: read(tmp_path / "no"))
        assert text == f"annotation folder '{tmp_path}/no/Annotations/CLS-LOC/val' is not a directory."
        path = root / "Annotations/CLS-LOC/val/ILSVRC2012_val_00000002.xml"
        path.unlink()
        data = warned(f"annotation '{path}' is not a file.", lambda: read(root))
        assert data.found.left_out == {"no annotation": ["ILSVRC2012_val_00000002"]}
        images = root / "Data/CLS-LOC/val"
        for file in images.iterdir():
            file.unlink()
        text = message(FileNotFoundError, lambda: read(root))
        assert text == f"image folder '{images}' has no images; expected '{images}/NAME.JPEG'."
        images.rmdir()
        assert message(FileNotFoundError, lambda: read(root)) == f"image folder '{images}' is not a directory."

    def test_images_of_other_classes_are_left_out(self, root):
        path = root / "Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml"
        words = f"annotation '{path}' has the unknown class '{HEN}'. "
        data = warned(words, lambda: read(root, classes=["stingray", "tench"]))
        assert [sample.target for sample in data] == [1, 1]
        assert data.found.left_out == {"another class": ["ILSVRC2012_val_00000001"]}
        assert message(ValueError, lambda: read(root, classes=[RAY])).startswith(words)

    def test_one_class_per_image(self, root):
        path = add(root, 2, (TENCH, (2, 2, 3, 3)), (HEN, (2, 2, 3, 3)))
        assert len(warned(f"annotation '{path}' names 2 classes ({TENCH}, {HEN}); expected one.", lambda: read(root))) == 2
        add(root, 2)
        assert len(warned(f"annotation '{path}' names 0 classes (no object); expected one.", lambda: read(root))) == 2

    def test_a_folder_of_another_class(self, root):
        path = add(root, 4, (TENCH, (2, 2, 3, 3)), folder=RAY)
        words = (
            f"annotation '{path}' has the class '{TENCH}', but its image is "
            f"'{root}/Data/CLS-LOC/val/{RAY}/ILSVRC2012_val_00000004.JPEG'; they disagree."
        )
        assert len(warned(words, lambda: read(root))) == 3

    def test_xml(self, root):
        path = write(root / "Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml", "<annotation>")
        words = f"annotation '{path}' cannot be read as XML (no element found: line 1, column 12)."
        data = warned(words, lambda: read(root))
        assert data.found.left_out == {"unreadable annotation": ["ILSVRC2012_val_00000001"]}

    def test_outside(self, root):
        path = add(root, 2, (TENCH, (12, 2, 13, 3)))
        data = read(root)
        assert message(ValueError, lambda: data[0]) == (
            f"annotation '{path}': the box with the edges left 12, top 2, right 14, bottom 4 lies outside its image of "
            "12x12 pixels."
        )

    def test_another_size(self, root):
        path = add(root, 2, (TENCH, (2, 2, 3, 3)), size=(500, 375))
        data = read(root)
        assert message(ValueError, lambda: data[0]) == (
            f"annotation '{path}' is for an image of 500x375 pixels, its image has 12x12; its regions would be misplaced."
        )
