"""A table with a column for each class, as CheXpert's."""

import pickle

import numpy as np
import pytest
import torch
from image_files import SIDE, block, draw, message, same, warned, write
from PIL import Image

from captum_softcam.data import LabelledImages, LabelTableSamples
from captum_softcam.evaluation import class_performance
from captum_softcam.softcam import Classifier

CHEXPERT = """Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Pneumothorax,Support Devices
set/valid/p1/view1.jpg,Female,68,Frontal,AP,,1.0,1.0,0.0
set/valid/p2/view1.jpg,Male,61,Lateral,,1.0,0.0,,
set/valid/p3/view1.jpg,Male,1,Frontal,PA,,-1.0,0.0,1.0
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("p1", "p2", "p3"):
        draw(tmp_path / f"data/set/valid/{name}/view1.jpg")
    return tmp_path / "data"


@pytest.fixture
def table(folder):
    return write(folder / "set/valid.csv", CHEXPERT)


def mask(path, *spans):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(block(*spans)[0].numpy().astype(np.uint8) * 255).save(path)


def refused(call, error=ValueError):
    return message(error, call)


class TestReading:
    def test_one_sample_for_every_image_and_class(self, folder, table):
        data = LabelTableSamples(folder, table, size=20)
        assert data.classes == ("No Finding", "Edema", "Pneumothorax", "Support Devices")
        found = [(s.identifier.removeprefix("set/valid/"), s.target, s.labels, s.undecided) for s in data]
        assert found == [
            ("p2/view1.jpg/No Finding", 0, (0,), ()),
            ("p1/view1.jpg/Edema", 1, (1, 2), ()),
            ("p1/view1.jpg/Pneumothorax", 2, (1, 2), ()),
            ("p3/view1.jpg/Support Devices", 3, (3,), (1,)),
        ]
        assert [sample.group[10:12] for sample in data] == ["p2", "p1", "p1", "p3"]
        assert data[0].image.shape == (3, 20, 20)
        assert data.masked == 0
        assert pickle.loads(pickle.dumps(data)).groups == data.groups

    @pytest.mark.parametrize(
        ("uncertain", "labels", "undecided"),
        [("undecided", (3,), (1,)), ("present", (1, 3), ()), ("absent", (3,), ())],
    )
    def test_what_uncertain_means(self, folder, table, uncertain, labels, undecided):
        sample = LabelTableSamples(folder, table, size=SIDE, uncertain=uncertain)[-1]
        assert (sample.group[10:12], sample.labels, sample.undecided) == ("p3", labels, undecided)

    def test_classes_of_the_model(self, folder, table):
        with pytest.warns(
            UserWarning, match=r"1 of 3 images of the table '.*' show none of the classes and make no sample: "
        ):
            data = LabelTableSamples(folder, table, size=SIDE, classes=["Support Devices", "Edema", "Pneumothorax"])
        assert [(sample.identifier[10:12], sample.target) for sample in data] == [("p3", 0), ("p1", 1), ("p1", 2)]

    def test_the_absence_of_a_class(self, folder, table):
        classes = ["not Edema", "Edema"]
        with pytest.warns(UserWarning, match="1 of 3 images"):
            data = LabelTableSamples(folder, table, size=SIDE, classes=classes)
        found = {sample.identifier[10:12]: (sample.labels, sample.undecided) for sample in data.every_image()}
        assert found == {"p1": ((1,), ()), "p2": ((0,), ()), "p3": ((), (0, 1))}
        for uncertain, labels in (("present", (1,)), ("absent", (0,))):
            data = LabelTableSamples(folder, table, size=SIDE, classes=classes, uncertain=uncertain)
            assert {sample.group[10:12]: (sample.labels, sample.undecided) for sample in data}["p3"] == (labels, ())
        names = [f"set/valid/p{i}/view1" for i in (1, 2, 3)]
        path = write(folder / "one.csv", f"Path,id,ill\n{names[0]},a,1\n{names[1]},b,0\n{names[2]},c,\n")
        one = LabelTableSamples(folder, path, size=SIDE, classes=["healthy", "ill"])
        assert {sample.group[10:12]: sample.target for sample in one} == {"p1": 1, "p2": 0, "p3": 0}

    def test_every_image_once(self, folder, table):
        with pytest.warns(UserWarning, match="1 of 3 images"):
            data = LabelTableSamples(folder, table, size=20, classes=["Edema", "Pneumothorax", "Support Devices"])
        every = data.every_image()
        assert [(sample.identifier[10:12], sample.target, sample.labels, sample.undecided) for sample in every] == [
            ("p2", -1, (), ()),
            ("p1", 0, (0, 1), ()),
            ("p3", 2, (2,), (0,)),
        ]
        assert every[0].image.shape == (3, 20, 20)
        net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3)).eval()
        classifier = Classifier("mine", net, data.classes, 20, (0, 0, 0), (1, 1, 1), scores="sigmoid")
        table = class_performance(classifier, every)
        assert table[["shown", "absent"]].iloc[:3].values.tolist() == [[1, 1], [1, 2], [1, 2]]
        assert class_performance(classifier, data)["absent"].tolist()[:3] == [0, 1, 1], "without the healthy image"

    def test_masks(self, folder, table, tmp_path):
        mask(tmp_path / "masks/Edema/set/valid/p1/view1.png", (1, 3, 2, 5))
        mask(tmp_path / "masks/No Finding/set/valid/p1/view1.png", (0, 1, 0, 1))
        data = LabelTableSamples(folder, table, tmp_path / "masks", SIDE)
        assert data.masked == 1
        assert same(data[1].mask, block((1, 3, 2, 5)))
        assert data[2].mask is None, "the other class of the same image"
        assert data.found.masks == 2
        assert data.found.left_out == {"mask of no sample": ["No Finding/set/valid/p1/view1.png"]}

    def test_several_masks_and_other_case(self, folder, table, tmp_path):
        mask(tmp_path / "masks/edema/set/valid/P1/view1_mask.png", (1, 3, 2, 5))
        mask(tmp_path / "masks/edema/set/valid/P1/view1_mask_1.png", (5, 6, 5, 6))
        data = LabelTableSamples(folder, table, tmp_path / "masks", SIDE)
        assert same(data[1].mask, block((1, 3, 2, 5), (5, 6, 5, 6)))

    def test_masks_without_folders_of_classes(self, tmp_path):
        """As ISIC's; they say nothing about which of several classes they show."""
        for name in "wxyz":
            draw(tmp_path / f"images/{name}.jpg")
            mask(tmp_path / f"masks/{name}_segmentation.png", (1, 3, 2, 5))
        mask(tmp_path / "masks/a/z.png", (5, 6, 5, 6))
        path = write(tmp_path / "t.csv", "image,a,b\nw,0.0,1.0\nx,1,1\ny,1,-1\nz,1,0\n")
        data = LabelTableSamples(tmp_path / "images", path, tmp_path / "masks", SIDE)
        found = {sample.identifier: sample.mask for sample in data}
        assert [name for name, region in found.items() if region is not None] == ["w/b", "z/a"]
        assert same(found["w/b"], block((1, 3, 2, 5)))
        assert same(found["z/a"], block((5, 6, 5, 6))), "that of the class goes first"
        unused = [f"{name}_segmentation.png" for name in "xyz"]
        assert data.found.left_out == {"mask of no sample": unused}

    def test_names_without_ending_and_with_dots(self, tmp_path):
        draw(tmp_path / "images/1.2.840.png")
        draw(tmp_path / "images/1.2.113.jpg")
        mask(tmp_path / "masks/a/1.2.840.png", (1, 3, 2, 5))
        mask(tmp_path / "masks/a/1.2.png", (0, 1, 0, 1))
        path = write(tmp_path / "t.csv", "image_id,a,b\n1.2.840,1,0\n1.2.113.jpg,1,1\n")
        data = LabelTableSamples(tmp_path / "images", path, tmp_path / "masks", SIDE)
        assert [(sample.identifier, sample.mask is not None) for sample in data] == [
            ("1.2.840/a", True),
            ("1.2.113.jpg/b", False),
            ("1.2.113.jpg/a", False),
        ]

    def test_cells_of_pandas(self, folder):
        """An index without a name, truth values, and nothing."""
        names = [f"set/valid/p{i}/view1" for i in (1, 2, 3)]
        path = write(folder / "t.csv", f",Path,a,b\n0,{names[0]},True,nan\n1,{names[1]},False,1.0\n2,{names[2]},TRUE,-1\n")
        data = LabelTableSamples(folder, path, size=SIDE)
        assert data.classes == ("a", "b")
        assert [(sample.labels, sample.undecided) for sample in data] == [((0,), ()), ((1,), ()), ((0,), (1,))]

    def test_a_picture_named_in_two_ways(self, folder):
        path = write(folder / "t.csv", "Path,a\nset/valid/p1/view1,1\nset\\valid\\p1\\view1.jpg,1\n")
        assert "line 3 of" in refused(lambda: LabelTableSamples(folder, path))

    def test_another_column_names_the_image(self, folder):
        path = write(folder / "t.csv", "id,a,file\n1,1,set/valid/p1/view1.jpg\n0,1,set/valid/p2/view1.jpg\n")
        data = LabelTableSamples(folder, path, size=SIDE, classes=["a"], image_column="file")
        assert [sample.group[10:12] for sample in data] == ["p1", "p2"]


class TestHostile:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("Path,a\n", "has no rows; expected one per image below the header."),
            (
                "Path\nx.png\n",
                "has no column of labels, whose cells are 1, 0, -1 or empty, but Path; name the column of the classes",
            ),
            (
                "Path,a\nx.png,yes\n",
                "has no column of labels, whose cells are 1, 0, -1 or empty, but Path, a; name the column of the",
            ),
            ("Path,a\nx.png,0\ny.png,\n", "shows one of the classes 'a'."),
            ("Path,a\nx.png,1\n,1\n", "line 3 of '{}' has nothing in the column 'Path'."),
            (
                "Path,a\nx.png,1\ny.png,0\nz.png,l\n",
                "line 4 of '{}' has 'l' in the column 'a', whose other cells are labels; correct it, or pass the names of "
                "the columns that are classes (--classes).",
            ),
            (
                "Path,a\nx.png,1\nx.png,0\n",
                "line 3 of '{}' names the image 'x.png' again, after line 2 of '{}'; keep one row",
            ),
            ("Path,a\n../x.png,1\n", "names the image '../x.png', which is not below its folder"),
        ],
    )
    def test_the_table(self, tmp_path, text, words):
        for name in "xyz":
            draw(tmp_path / f"images/{name}.png")
        path = write(tmp_path / "t.csv", text)
        assert words.replace("{}", str(path)) in refused(lambda: LabelTableSamples(tmp_path / "images", path))

    def test_a_cell_of_a_class_of_the_model(self, folder, table):
        text = refused(lambda: LabelTableSamples(folder, table, classes=["Sex"]))
        assert text == f"line 2 of '{table}' has 'Female' in the column 'Sex'; expected 1, 0, -1 (uncertain) or nothing."
        for cell in ("2", "inf", "1_0", "0.5", "yes"):
            path = write(folder / "t.csv", f"Path,a\nx.png,{cell}\n")
            assert f"has '{cell}' in the column 'a'" in refused(
                lambda path=path: LabelTableSamples(folder, path, classes=["a"])
            )

    def test_names(self, folder, table, tmp_path):
        text = refused(lambda: LabelTableSamples(folder, table, classes=["Edma"]))
        assert text.startswith(f"table '{table}' has no column 'Edma'. ")
        assert "Edema" in text
        assert "has no column 'file'" in refused(lambda: LabelTableSamples(folder, table, image_column="file"))
        assert "uncertain 'ones' is unknown." in refused(lambda: LabelTableSamples(folder, table, uncertain="ones"))
        (tmp_path / "masks").mkdir()
        text = refused(lambda: LabelTableSamples(folder, table, tmp_path / "masks"))
        assert text.startswith(f"mask folder '{tmp_path}/masks' has no mask for any image and class; expected e.g. '")
        assert text.endswith("masks/Edema/set/valid/p1/view1.png'.")
        mask(tmp_path / "masks/edma/x.png")
        text = refused(lambda: LabelTableSamples(folder, table, tmp_path / "masks"))
        assert text.endswith("masks/Edema/set/valid/p1/view1.png', found 'edma/x.png'.")

    def test_images(self, folder, table):
        assert LabelTableSamples(folder / "set", table)[0].group == "set/valid/p2/view1.jpg"
        (folder / "other").mkdir()
        text = refused(lambda: LabelTableSamples(folder / "other", table), FileNotFoundError)
        assert text == (
            f"line 2 of '{table}' names the image 'set/valid/p1/view1.jpg', which lies below '{folder}', not below "
            f"'{folder}/other'; pass that folder as images (--images)."
        )
        (folder / "set/valid/p1/view1.jpg").unlink()
        words = f"line 2 of '{table}' names the image 'set/valid/p1/view1.jpg', which is not in '{folder}', with any ending."
        data = warned(words, lambda: LabelTableSamples(folder, table))
        assert [sample.identifier[10:12] for sample in data] == ["p2", "p3"]
        assert len(data.every_image()) == 2
        assert data.found.left_out == {"no such image": ["set/valid/p1/view1.jpg"]}
        draw(folder / "b.png")
        draw(folder / "b.jpg")
        path = write(folder / "t.csv", "Path,a\nb,1\n")
        text = refused(lambda: LabelTableSamples(folder, path))
        assert text == f"line 2 of '{path}' names the image 'b', which could be b.jpg, b.png; keep one of them."

    def test_a_mask_of_another_size_and_a_black_one(self, folder, table, tmp_path):
        mask(tmp_path / "masks/Edema/set/valid/p1/view1.png")
        data = LabelTableSamples(folder, table, tmp_path / "masks", SIDE)
        assert data[1].mask is None
        Image.new("L", (3, 3), 255).save(tmp_path / "masks/Edema/set/valid/p1/view1.png")
        assert "both must have the same size." in refused(lambda: data[1])


class TestTraining:
    def test_a_table_to_train_on(self, tmp_path):
        for name in "xyz":
            draw(tmp_path / f"{name}.png")
        path = write(tmp_path / "t.csv", "path,split,a,b,age\nx.png,train,1,0,9\ny.png,val,1,1,8\nz.png,train,,,7\n")
        data = LabelledImages.from_csv(path, kind="multilabel")
        assert (data.classes, data.labels, data.kind) == (("a", "b"), ((0,), (0, 1), ()), "multilabel")
        assert [file.name for file in LabelledImages.from_csv(path, "val", kind="multilabel").files] == ["y.png"]
        assert LabelledImages.from_csv(path, classes=["b"], kind="multilabel").labels == ((), (0,), ())

    def test_uncertain_labels_need_a_decision(self, tmp_path):
        for name in "xy":
            draw(tmp_path / f"{name}.png")
        path = write(tmp_path / "t.csv", "path,a,b\nx.png,1,-1\ny.png,0,1\n")
        text = refused(lambda: LabelledImages.from_csv(path, kind="multilabel"))
        assert text == (
            f"line 2 of '{path}' has -1 for 'b'; a training needs a decision: pass uncertain='absent' or 'present', or "
            "decide in the table."
        )
        assert LabelledImages.from_csv(path, kind="multilabel", uncertain="absent").labels == ((0,), (1,))
        assert LabelledImages.from_csv(path, kind="multilabel", uncertain="present").labels == ((0, 1), (1,))


class TestOneColumnForAllClasses:
    HAM = "lesion_id,image_id,dx\nl1,p1,mel\nl2,p2,nv\nl3,p3,nv\n"

    def samples(self, folder, text, **options):
        return LabelTableSamples(folder / "set/valid", write(folder / "t.csv", text), size=20, **options)

    @pytest.fixture
    def folder(self, tmp_path):
        for name in ("p1", "p2", "p3"):
            draw(tmp_path / f"set/valid/{name}.jpg")
        return tmp_path

    def test_one_class_per_image(self, folder):
        data = self.samples(folder, self.HAM, image_column="image_id", label_column="dx")
        assert data.classes == ("mel", "nv")
        found = [(sample.identifier, sample.target, sample.group, sample.labels) for sample in data]
        assert found == [("p1", 0, None, None), ("p2", 1, None, None), ("p3", 1, None, None)]

    def test_several_classes_per_image(self, folder):
        text = "Image,Labels\np1.jpg,Edema|Mass\np2.jpg,No Finding\np3.jpg,Mass\n"
        options = {"label_column": "Labels", "classes": ["Mass", "Edema"]}
        data = warned(
            "'No Finding' in the column 'Labels'",
            lambda: warned("1 of 3 images", lambda: self.samples(folder, text, **options)),
        )
        found = [(sample.identifier, sample.target, sample.labels) for sample in data]
        assert found == [("p1.jpg/Mass", 0, (0, 1)), ("p1.jpg/Edema", 1, (0, 1)), ("p3.jpg/Mass", 0, (0,))]

    def test_grades_keep_their_places(self, folder):
        data = self.samples(folder, "image,grade\np1,3.0\np2,0\np3,1\n", label_column="grade")
        assert data.classes == ("0", "1", "2", "3")
        assert {sample.identifier: sample.target for sample in data} == {"p1": 3, "p2": 0, "p3": 1}

    def test_masks(self, folder):
        mask(folder / "masks/p1_segmentation.png", (2, 5, 1, 4))
        mask(folder / "masks/nv/p2.png", (2, 5, 1, 4))
        data = self.samples(folder, self.HAM, image_column="image_id", label_column="dx", masks=folder / "masks")
        assert [sample.mask is not None for sample in data] == [True, True, False]

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"label_column": "DX"}, "has no column 'DX'. Known: 'lesion_id'"),
            ({"label_column": "dx", "classes": ["a", "b"]}, "no image of the table"),
            ({"image_column": "image_id"}, "(--label-column)"),
            ({"label_column": "dx", "classes": ["nv", "nv"]}, "line 3 of"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:the labels")
    def test_what_is_refused(self, folder, options, sentence):
        assert sentence in refused(lambda: self.samples(folder, self.HAM, **options))

    def test_an_image_without_a_name(self, folder):
        text = "image,dx\n,mel\np2,nv\n"
        assert "has nothing in the column 'image'" in refused(lambda: self.samples(folder, text, label_column="dx"))
