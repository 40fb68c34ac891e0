"""The embedded models: small, whole, and right where a shortcut is wrong."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from captum_softcam.data import RetinalLesions
from captum_softcam.evaluation import accuracy
from captum_softcam.softcam import EMBEDDED, SoftCamModel, classifiers, load_embedded

every = pytest.mark.parametrize("name", EMBEDDED)


@pytest.fixture(scope="module")
def held_out():
    return list(RetinalLesions("test", length=200))


@pytest.fixture(scope="module")
def shortcut(held_out):
    """Held-out accuracy of a random forest that sees how often each shade comes up, but no shapes and no places."""

    def histograms(samples):
        return np.stack([np.concatenate([torch.histc(c, 16, 0, 1).numpy() for c in s.image]) for s in samples])

    train = list(RetinalLesions("train", length=600))
    forest = RandomForestClassifier(200, random_state=0).fit(histograms(train), [sample.target for sample in train])
    return forest.score(histograms(held_out), [sample.target for sample in held_out])


class TestModels:
    @every
    def test_what_comes_with_it(self, name):
        classifier = load_embedded(name)
        assert classifier.name == name
        assert classifier.classes == RetinalLesions.classes
        assert classifier.image_size == 160
        assert isinstance(classifier.model, SoftCamModel) == (name == "lesions_softcam")
        assert not any(module.training for module in classifier.model.modules())
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in classifier.model.parameters())

    @every
    @pytest.mark.parametrize("size", [160, 96])
    def test_logits(self, name, size):
        with torch.no_grad():
            logits = load_embedded(name).model(torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)))
        assert logits.shape == (3, 4)
        assert logits.isfinite().all()

    @torch.no_grad()
    def test_evidence_is_fine_and_its_mean_decides(self, held_out):
        model = load_embedded("lesions_softcam").model
        images = torch.stack([sample.image for sample in held_out[:3]])
        evidence = model.evidence_maps(images)
        assert evidence.shape == (3, 4, 20, 20)
        torch.testing.assert_close(evidence.mean((2, 3)), model(images), atol=1e-5, rtol=0)

    def test_default_is_the_softcam_model(self):
        assert load_embedded().name == "lesions_softcam"

    def test_files_are_small_and_no_others_lie_there(self):
        files = sorted(path for path in classifiers._EMBEDDED_FOLDER.iterdir() if path.is_file())
        assert [path.name for path in files] == sorted(f"{name}.safetensors" for name in EMBEDDED)
        assert sum(path.stat().st_size for path in files) <= 6e6

    def test_unknown_name(self):
        with pytest.raises(
            ValueError, match=r"^embedded model 'lesion' is unknown; expected one of 'lesions_softcam', 'les"
        ):
            load_embedded("lesion")


class TestAccuracy:
    @every
    def test_held_out(self, name, held_out, shortcut):
        share, low, high = accuracy(load_embedded(name), held_out)
        assert low <= share <= high
        assert share > 0.9
        assert share >= shortcut + 0.2, "colours alone explain too much of it"

    def test_the_shortcut_knows_something(self, shortcut):
        assert shortcut > 0.4, "a shortcut at chance would be no opponent"
