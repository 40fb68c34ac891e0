"""The Oxford-IIIT Pet data set: images, trimaps and lists."""

import re

import numpy as np
import pytest
from image_files import SIDE, block, draw, message, same, warned, write
from PIL import Image

from captum_softcam.data import OxfordPetSamples

LIST = """#Image CLASS-ID SPECIES BREED ID
#ID: 1:37 Class ids
Abyssinian_201 1 1 1
saint_bernard_7 29 2 19
Abyssinian_202 1 1 1
"""


def save_trimap(root, name, values=None):
    """A trimap: the animal in rows 2 to 4, a border row on both sides."""
    if values is None:
        values = np.full((SIDE, SIDE), 2, np.uint8)
        values[1:6, 3:9] = 3
        values[2:5, 3:9] = 1
    path = root / f"annotations/trimaps/{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "oxford-iiit-pet"
    write(root / "annotations/test.txt", LIST)
    for name in ("Abyssinian_201", "saint_bernard_7", "Abyssinian_202"):
        draw(root / f"images/{name}.jpg")
        save_trimap(root, name)
    (root / "annotations/trimaps/._Abyssinian_201.png").write_text("which macOS leaves behind, and no list names")
    return root


class TestReading:
    def test_breeds_in_turn(self, root):
        data = OxfordPetSamples(root, size=SIDE)
        want = [("Abyssinian_201", 0), ("saint_bernard_7", 28), ("Abyssinian_202", 0)]
        assert [(sample.identifier, sample.target) for sample in data] == want
        assert len(data.classes) == len(set(data.classes)) == 37
        assert [name.lower() for name in data.classes] == sorted(name.lower() for name in data.classes)
        assert data.classes[28] == "saint_bernard"
        assert data.masked == 3
        assert data[0].image.shape == (3, SIDE, SIDE)

    def test_species(self, root):
        data = OxfordPetSamples(root, target="species")
        assert data.classes == ("cat", "dog")
        assert [sample.target for sample in data] == [0, 1, 0]

    def test_the_border_is_an_argument(self, root):
        assert same(OxfordPetSamples(root, size=SIDE)[0].mask, block((2, 5, 3, 9)))
        assert same(OxfordPetSamples(root, size=SIDE, border=True)[0].mask, block((1, 6, 3, 9)))

    def test_a_palette_makes_no_difference(self, root):
        path = root / "annotations/trimaps/Abyssinian_201.png"
        with Image.open(path) as file:
            file.putpalette([0, 0, 0, 250, 250, 250, 0, 0, 0, 90, 90, 90])
            file.save(path)
            assert file.mode == "P"
        assert same(OxfordPetSamples(root, size=SIDE)[0].mask, block((2, 5, 3, 9)))

    def test_all_of_both_lists(self, root):
        write(root / "annotations/list.txt", "saint_bernard_7 29 2 19\n")
        assert len(OxfordPetSamples(root, "list")) == 1


class TestMessages:
    def test_missing(self, root, tmp_path):
        text = message(FileNotFoundError, lambda: OxfordPetSamples(tmp_path / "no"))
        assert text == f"pet folder '{tmp_path}/no' is not a directory."
        text = message(FileNotFoundError, lambda: OxfordPetSamples(root, "val"))
        assert text == f"list '{root}/annotations/val.txt' is not a file."
        trimap = root / "annotations/trimaps/saint_bernard_7.png"
        trimap.unlink()
        words = f"line 4 of '{root}/annotations/test.txt' needs the trimap '{trimap}', which is not a file."
        data = warned(words, lambda: OxfordPetSamples(root))
        assert data.found.left_out == {"no such image or trimap": ["saint_bernard_7"]}
        (root / "images/saint_bernard_7.jpg").unlink()
        words = (
            f"line 4 of '{root}/annotations/test.txt' names the image 'saint_bernard_7.jpg', which is not in '{root}/images'"
        )
        assert len(warned(words, lambda: OxfordPetSamples(root))) == 2

    def test_target(self, root):
        text = message(ValueError, lambda: OxfordPetSamples(root, target="breeds"))
        assert text == "target 'breeds' is unknown. Closest: 'breed'."

    @pytest.mark.parametrize(
        "line", ["Abyssinian_201", "Abyssinian_201 2 1 1", "Abyssinian_201 1 3 1", "Abyssinian_201 1", "tiger_1 1 1 1", "x"]
    )
    def test_a_line(self, root, line):
        path = write(root / "annotations/test.txt", f"{line}\n")
        assert message(ValueError, lambda: OxfordPetSamples(root)) == (
            f"line 1 of '{path}' is '{line}'; expected BREED_NUMBER, the number of the breed from 1 to 37, and the species, "
            "1 for a cat or 2 for a dog."
        )

    def test_a_list_of_nothing(self, root):
        path = write(root / "annotations/test.txt", "# Image\n")
        assert message(ValueError, lambda: OxfordPetSamples(root)) == f"list '{path}' names no images."

    def test_a_trimap(self, root):
        data = OxfordPetSamples(root)
        path = save_trimap(root, "Abyssinian_201", np.full((SIDE, SIDE), 255, np.uint8))
        assert message(ValueError, lambda: data[0]) == (
            f"trimap '{path}' has the value 255; expected 1 (animal), 2 (background) and 3 (border)."
        )
        save_trimap(root, "Abyssinian_201", np.full((SIDE, SIDE), 3, np.uint8))
        assert message(ValueError, lambda: data[0]) == (
            f"trimap '{path}' shows no animal; border=True counts its border as well."
        )
        save_trimap(root, "Abyssinian_201", np.full((5, 6), 1, np.uint8))
        assert message(ValueError, lambda: data[0]) == (
            f"trimap '{path}' is 6x5 pixels, its image '{root}/images/Abyssinian_201.jpg' 12x12; "
            "both must have the same size."
        )
        path.write_text("hello")
        assert re.fullmatch(
            rf"trimap '{path}' cannot be read \(.+\); repair or remove it\.", message(ValueError, lambda: data[0])
        )
