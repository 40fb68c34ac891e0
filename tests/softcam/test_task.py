"""The training task: its loss and scores against literal re-computations, and the word for everything that is wrong."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from captum_softcam.softcam import ElasticNetEvidenceLoss, EvidenceHead, SoftCamModel, SoftCamTask
from captum_softcam.softcam.scores import hoyer_sparsity, one_vs_rest_auc

KINDS = ("multiclass", "multilabel", "binary")
pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers"),  # none are wanted here
]


def softcam(classes=4):
    torch.manual_seed(0)
    return SoftCamModel(nn.Conv2d(3, 5, 3), EvidenceHead(nn.Conv2d(5, classes, 1))).double()


def batch(kind, classes=4, count=6):
    random = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, 6, 7, generator=random, dtype=torch.float64)
    if kind == "multiclass":
        return images, torch.arange(count) % classes
    shape = (count, classes) if kind == "multilabel" else (count,)
    return images, (torch.rand(shape, generator=random) > 0.5).double()


def literal_loss(evidence, targets, kind, weights, l1, l2):
    """Loss of one step, cell by cell and class by class."""
    count, classes = len(evidence), evidence.shape[1]
    terms, total_weight, penalty = [], 0.0, 0.0
    for n in range(count):
        cells = [[float(value) for value in evidence[n, k].flatten()] for k in range(classes)]
        logits = [sum(row) / len(row) for row in cells]
        penalty += sum(l1 * abs(value) + l2 * value**2 for row in cells for value in row) / count
        if kind == "multiclass":
            weight = weights[int(targets[n])]
            terms.append(-weight * (logits[int(targets[n])] - math.log(sum(map(math.exp, logits)))))
            total_weight += weight
            continue
        for k, logit in enumerate(logits):
            target = float(targets[n, k] if kind == "multilabel" else targets[n])
            p = 1 / (1 + math.exp(-logit))
            terms.append(-weights[k] * target * math.log(p) - (1 - target) * math.log(1 - p))
            total_weight += 1
    return sum(terms) / total_weight + penalty


def logged(task, validation, epochs=1, train=None):
    """What a short training of the task logs."""
    from lightning.pytorch import Trainer

    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loaders = [DataLoader(TensorDataset(*data), batch_size=4) for data in (train or validation, validation)]
    trainer.fit(task, *loaders)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def step(task, data):
    task.log = lambda *_args, **_kwargs: None  # there is no trainer
    return task.training_step(data, 0)


class TestLoss:
    @pytest.mark.parametrize("weights", [None, (0.5, 1.5, 2.0, 3.0)], ids=["plain", "weighted"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_of_one_step(self, kind, weights):
        classes = 1 if kind == "binary" else 4
        model, data = softcam(classes), batch(kind)
        chosen = None if weights is None else torch.tensor(weights[:classes])
        task = SoftCamTask(model, ElasticNetEvidenceLoss(0.01, 0.02), kind=kind, class_weights=chosen)
        expected = literal_loss(model.evidence_maps(data[0]).detach(), data[1], kind, weights or (1,) * 4, 0.01, 0.02)
        assert step(task, data).item() == pytest.approx(expected, rel=1e-12)

    def test_one_forward_per_step(self):
        model, calls = softcam(), []
        model.backbone.register_forward_hook(lambda *_: calls.append(1))
        step(SoftCamTask(model, ElasticNetEvidenceLoss(0.1)), batch("multiclass"))
        assert len(calls) == 1

    def test_gradient_reaches_the_evidence_by_loss_and_penalty(self):
        model, data = softcam(), batch("multiclass")
        grads = []
        for penalty in (None, ElasticNetEvidenceLoss(0.1)):
            model.zero_grad()
            step(SoftCamTask(model, penalty), data).backward()
            grads.append(model.evidence[0].weight.grad.clone())
        assert (grads[0] - grads[1]).abs().max() > 1e-3

    def test_black_box_gives_the_same_classification_loss(self, net):
        data = batch("multiclass")
        expected = nn.functional.cross_entropy(net(data[0]), data[1])
        assert step(SoftCamTask(net), data).item() == pytest.approx(expected.item(), rel=1e-12)

    def test_half_precision_evidence_does_not_overflow_in_the_penalty(self):
        head = nn.Conv2d(1, 1, 1)
        nn.init.constant_(head.weight, 1.0)
        nn.init.zeros_(head.bias)
        model = SoftCamModel(nn.Identity(), EvidenceHead(head)).bfloat16()
        images = torch.full((1, 1, 64, 64), 100.0, dtype=torch.bfloat16)
        task = SoftCamTask(model, ElasticNetEvidenceLoss(1.0), kind="binary")
        loss = step(task, (images, torch.ones(1)))
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(64 * 64 * 100, rel=1e-6), "bfloat16 would round the sum"


class TestScores:
    def literal_auc(self, scores, members):
        pairs = [(a > b) + 0.5 * (a == b) for a in scores[members] for b in scores[~members]]
        return float(sum(pairs)) / len(pairs) if pairs else math.nan

    def test_auc_counts_pairs(self):
        logits = torch.randint(0, 4, (30, 3), generator=torch.Generator().manual_seed(0)).double()
        targets = (torch.rand(30, 3, generator=torch.Generator().manual_seed(1)) > 0.6).double()
        found = one_vs_rest_auc(logits, targets, "multilabel")
        assert found.tolist() == pytest.approx([self.literal_auc(logits[:, k], targets[:, k] > 0) for k in range(3)])

    def test_auc_equals_torchmetrics(self):
        from torchmetrics.functional.classification import multiclass_auroc, multilabel_auroc

        logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        targets = torch.arange(50) % 4
        expected = multiclass_auroc(logits, targets, 4, average=None)
        assert torch.allclose(one_vs_rest_auc(logits, targets, "multiclass"), expected.double(), atol=1e-6)
        labels = nn.functional.one_hot(targets, 4)
        expected = multilabel_auroc(logits, labels, 4, average=None)
        assert torch.allclose(one_vs_rest_auc(logits, labels.double(), "multilabel"), expected.double(), atol=1e-6)

    def test_certain_answers_are_no_ties(self):
        logits = torch.tensor([[40.0, 0], [41.0, 0], [42.0, 0], [39.0, 0]])
        targets = torch.tensor([0, 0, 0, 1])
        assert one_vs_rest_auc(logits, targets, "multiclass").tolist() == [1.0, 1.0]

    def test_one_in_a_thousand_behind(self):
        """Classes of little probability are ranked by it, whatever the greatest one does."""
        logits = torch.tensor([[60.0, -1, -2], [60, -3, -2], [60, 0, -2]])
        assert one_vs_rest_auc(logits, torch.tensor([1, 0, 1]), "multiclass")[1] == 1

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_a_whole_validation_set_in_uneven_batches(self, kind):
        classes = 1 if kind == "binary" else 3
        task, data = SoftCamTask(softcam(classes), kind=kind, lr=1e-30), batch(kind, classes, 11)
        values = logged(task, data)
        logits = task.model(data[0]).detach()
        if kind == "multiclass":
            loss, right = nn.functional.cross_entropy(logits, data[1]), logits.argmax(1) == data[1]
            members = nn.functional.one_hot(data[1], 3).bool()
            logits = logits.softmax(1)
        else:
            targets = data[1].reshape(logits.shape)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
            right, members = (logits > 0) == (targets > 0), targets > 0
        areas = [self.literal_auc(logits[:, k], members[:, k]) for k in range(classes)]
        assert values["val_loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert values["val_accuracy"] == pytest.approx(right.double().mean().item(), rel=1e-6)
        assert values["val_auc"] == pytest.approx(sum(areas) / classes, rel=1e-6)
        assert values["val_score"] == pytest.approx(values["val_auc"])

    @pytest.mark.parametrize(("score", "sign"), [("accuracy", 1), ("auc", 1), ("loss", -1)])
    def test_score_that_chooses_is_higher_where_better(self, score, sign):
        values = logged(SoftCamTask(softcam(), score=score), batch("multiclass", count=8))
        assert values["val_score"] == sign * values[f"val_{score}"]

    def test_penalty_and_sparsity_are_logged_per_example(self):
        penalty, data = ElasticNetEvidenceLoss(0.1, 0.1), batch("multiclass", count=7)
        task = SoftCamTask(softcam(), penalty, lr=1e-30)
        values = logged(task, data)
        evidence = task.model.evidence_maps(data[0]).detach()
        assert values["val_penalty"] == pytest.approx(penalty(evidence).item(), rel=1e-6)
        assert values["train_penalty"] == pytest.approx(penalty(evidence).item(), rel=1e-6)
        assert values["val_sparsity"] == pytest.approx(hoyer_sparsity(evidence).mean().item(), rel=1e-6)

    def test_black_box_logs_no_evidence(self, net):
        values = logged(SoftCamTask(net.train()), batch("multiclass", count=8))
        assert not [name for name in values if "penalty" in name or "sparsity" in name]

    def test_class_that_is_missing_is_left_out_in_words(self):
        data = batch("multiclass", count=8)
        data = data[0], data[1] % 3  # class 3 has no examples
        words = "val_auc leaves out class 3: the validation set has no examples of it"
        with pytest.warns(UserWarning, match=words) as seen:
            values = logged(SoftCamTask(softcam()), data, epochs=2)
        assert sum(words in str(warning.message) for warning in seen) == 1, "said once, not in every epoch"
        assert math.isfinite(values["val_auc"])


class TestHoyer:
    def test_by_hand(self):
        evidence = torch.tensor([[1.0, 1, 1, 1], [0, -3, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]]).reshape(4, 1, 2, 2)
        assert hoyer_sparsity(evidence).tolist() == pytest.approx([0, 1, 2 - 7 / 5, 1])

    def test_is_free_of_units_and_signs(self):
        evidence = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert torch.allclose(hoyer_sparsity(evidence), hoyer_sparsity(-7 * evidence))


class TestRecipe:
    def test_is_that_of_the_paper(self):
        from lightning.pytorch import Trainer

        task = SoftCamTask(softcam())
        task.trainer = Trainer(max_epochs=50, accelerator="cpu", logger=False, enable_checkpointing=False)
        made = task.configure_optimizers()
        optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
        (group,) = optimizer.param_groups
        assert isinstance(optimizer, torch.optim.SGD)
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)
        rates = []
        for _ in range(51):
            rates.append(group["lr"])
            optimizer.step()
            schedule.step()
        expected = [1e-4 + 9e-4 * (1 + math.cos(math.pi * epoch / 50)) / 2 for epoch in range(51)]
        assert rates == pytest.approx(expected)
        assert (rates[0], rates[-1]) == pytest.approx((1e-3, 1e-4))

    def test_frozen_weights_stay(self):
        model = softcam()
        model.backbone.requires_grad_(False)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        logged(SoftCamTask(model, lr=0.1), batch("multiclass", count=8))
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"evidence.0.weight", "evidence.0.bias"}


class TestRefused:
    """Word for word where the user sees nothing else."""

    def test_no_module(self):
        with pytest.raises(TypeError, match=r"SoftCamTask needs a torch\.nn\.Module; got function\."):
            SoftCamTask(batch)

    def test_penalty_on_a_black_box(self, net):
        with pytest.raises(ValueError, match="a penalty needs evidence maps, and PooledNet has none; convert it"):
            SoftCamTask(net, ElasticNetEvidenceLoss(0.1))

    def test_penalty_that_depends_on_the_batch(self):
        with pytest.raises(ValueError, match="reduction 'sum'; expected 'mean'"):
            SoftCamTask(softcam(), ElasticNetEvidenceLoss(0.1, reduction="sum"))

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"kind": "multilable"}, "kind 'multilable' is unknown. Closest: 'multilabel'"),
            ({"score": "f1"}, "score 'f1' is unknown. Known: 'auc', 'accuracy', 'loss'"),
            ({"lr": -1.0}, "learning rates must be 0 < final_lr <= lr"),
            ({"lr": 1e-3, "final_lr": 1e-2}, "learning rates must be 0 < final_lr <= lr"),
            ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
            ({"weight_decay": -1.0}, "weight_decay must be >= 0"),
            ({"class_weights": torch.tensor([1.0, 0.0])}, r"class_weights must be finite and above 0.*got \[1.0, 0.0\]"),
        ],
    )
    def test_settings(self, settings, words):
        with pytest.raises(ValueError, match=words):
            SoftCamTask(softcam(), **settings)

    @pytest.mark.parametrize(
        ("kind", "targets"),
        [("multiclass", torch.zeros(6, 4)), ("multilabel", torch.zeros(6)), ("binary", torch.zeros(6))],
    )
    def test_targets_of_another_kind(self, kind, targets):
        with pytest.raises(ValueError, match=rf"logits \(6, 4\) and targets .* do not go together as {kind}; expected"):
            step(SoftCamTask(softcam(), kind=kind), (batch("multiclass")[0], targets))

    def test_outputs_that_are_no_tensor(self):
        class Two(nn.Module):
            def forward(self, x):
                return x, x

        with pytest.raises(ValueError, match=r"the model gives tuple; training needs logits \(N, K\), one tensor"):
            step(SoftCamTask(Two()), batch("multiclass"))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_loss_that_is_not_finite(self, value):
        images, targets = batch("multiclass", count=8)
        images[5] = value
        with pytest.raises(
            ValueError, match=r"loss is (nan|inf) in epoch 0, step 1; try a smaller learning rate \(now 1e-30\)"
        ):
            logged(SoftCamTask(softcam(), lr=1e-30), (images, targets))

    def test_auc_of_a_single_class(self):
        images, targets = batch("multiclass", count=8)
        with pytest.raises(ValueError, match=r"no class with examples inside and outside of it.*choose score='loss'"):
            logged(SoftCamTask(softcam()), (images, 0 * targets), train=(images, targets))

    def test_nothing_to_train(self):
        with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
            logged(SoftCamTask(softcam().requires_grad_(False)), batch("multiclass"))
