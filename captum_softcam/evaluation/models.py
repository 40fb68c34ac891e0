"""Compare methods on several models, one after the other, on the same samples."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from captum_softcam._files import new_folder, read_json, write_json
from captum_softcam._names import closest, named, quoted, shown
from captum_softcam._scores import Scores
from captum_softcam.attr import METHODS
from captum_softcam.data import SampleSequence
from captum_softcam.evaluation.checkpoint import refuse_existing, refuse_other
from captum_softcam.evaluation.comparison import Comparison
from captum_softcam.evaluation.explain_func import LayerExplainFunc
from captum_softcam.evaluation.model_comparison import MODELS_FILE, ModelComparison, check_groups, models_record
from captum_softcam.evaluation.runner import compare_methods
from captum_softcam.softcam import SoftCamModel

__all__ = ["compare_models"]

_OPTIONS = ("model", "layer", "normalize", "scores", "notes")
_CURE = "Copy it back from where it is whole, or start the comparison anew in another folder"


def compare_models(
    models: Mapping[str, Any],
    samples: SampleSequence,
    methods: Sequence[Any] | Mapping[str, Any] | None = None,
    metrics: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    groups: Mapping[str, str] | None = None,
    layer: str | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
    scores: Scores = "softmax",
    baseline: str | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
    **settings: Any,
) -> ModelComparison:
    """Compare methods on several models, on the same samples, for one table.

    Each model is compared by :func:`compare_methods`. Methods that need evidence, such as SoftCAM, are left out for models
    that have none, as long as one model has it; a note of the table says so.

    With a ``folder``, every model has a subfolder, which :meth:`Comparison.load` reads, and ``models.json`` lists them;
    ``resume`` goes on with the model that was interrupted, and with those after it.

    Cost: that of :func:`compare_methods` for each model.

    Args:
        models (mapping): models by name. Each is a ``torch.nn.Module``, a pair of it and its layer, a
            :class:`~captum_softcam.softcam.Classifier`, which brings its normalisation and kind of scores, or a mapping of
            ``model`` and any of ``layer, normalize, scores, notes``. What it does not name is taken from the arguments below
        samples (SampleSequence): the samples of all models, as for :func:`compare_methods`.
        methods (sequence or dict): as for :func:`compare_methods`. Default: all that suit each model, except CAM and
            Score-CAM
        metrics (sequence or dict): as for :func:`compare_methods`. Default: those with ``default`` set; if no sample has a
            mask, without localisation
        groups (mapping): the group of each model, such as ``"softcam"`` for each of three seeds. Default: each model is a
            group of its own
        layer (str): layer of layer methods. Default: the one that is suggested for each model
        normalize (callable): turns images in [0, 1] into inputs of a model. Default: the images themselves
        scores (str or callable): what the outputs of a model mean. Default: ``"softmax"``
        baseline (str): the method that the others of a model are compared with. Default: ``"grad_cam"`` if it is among the
            methods, else the first
        folder (path): new folder for the results. Default: None, nothing is written
        resume (bool): go on with the comparison in ``folder``. Default: False
        notes (mapping): further facts for the manifest of every model; JSON. Default: none
        settings (dict): further arguments of :func:`compare_methods`, which are the same for all models: ``explain``,
            ``perturb_baseline``, ``batch_size``, ``seed``, ``examples``, ``runner_up``, ``engine``, ``passes``, ``strict``
            and ``show_progress``.

    Returns:
        ModelComparison: the comparisons of all models.

    Raises:
        ValueError: for the reasons of :func:`compare_methods` and :class:`ModelComparison`, if an option of a model is not
            known, or the folder was started with other models or groups.
        TypeError: if a value of ``models`` is none of those above, a setting is not known, or the first sample is not a
            ``Sample``.
        FileExistsError: if the folder exists and ``resume`` is False.
        FileNotFoundError: if there is nothing to resume.
        BlockingIOError: if another process works in the folder.
        OSError: if the folder is not writable.

    Example::

        >>> models = {name: load_embedded(name) for name in ("lesions_softcam", "lesions_black_box")}
        >>> found = compare_models(models, RetinalLesions("test", length=4), ["grad_cam", "random"], ["deletion"])
        >>> found.rows
        [('lesions_softcam', 'grad_cam'), ('lesions_softcam', 'random'),
         ('lesions_black_box', 'grad_cam'), ('lesions_black_box', 'random')]
    """
    shared = {"layer": layer, "normalize": normalize, "scores": scores}
    entries = {name: {**shared, **_entry(name, value)} for name, value in models.items()}
    groups = check_groups(entries, groups)
    record = models_record(groups)
    places = {each["name"]: each["folder"] for each in record["models"]}
    root = None if folder is None else Path(folder)
    if root is not None:
        _open(root, {**record, "notes": dict(notes or {})}, resume)
    evidence = any(isinstance(entry["model"], SoftCamModel) for entry in entries.values())
    found: dict[str, Comparison] = {}
    try:
        for name, entry in entries.items():
            place = None if root is None else root / places[name]
            if settings.get("show_progress"):
                tqdm.write(named(name))
            found[name] = compare_methods(
                entry["model"],
                samples,
                _fitting(methods, entry["model"]) if evidence else methods,
                metrics,
                layer=entry["layer"],
                normalize=entry["normalize"],
                scores=entry["scores"],
                baseline=None if evidence and baseline not in _fitting([baseline], entry["model"]) else baseline,
                folder=place,
                resume=resume and place is not None and os.path.lexists(place),
                notes={**(notes or {}), **entry.get("notes", {})},
                **settings,
            )
    finally:
        # Arguments are refused before the first batch, and leave no folder behind.
        if root is not None and not resume and not any((root / place).exists() for place in places.values()):
            shutil.rmtree(root, ignore_errors=True)
    return ModelComparison(found, groups)


def _open(folder: Path, record: Mapping[str, Any], resume: bool) -> None:
    """Start a folder for several models, or check that it was started with the same ones."""
    if not resume:
        refuse_existing(folder)
        with new_folder(folder) as draft:
            write_json(draft / MODELS_FILE, record)
        return
    if not (folder / MODELS_FILE).exists():
        raise FileNotFoundError(
            f"'{shown(folder)}' holds no comparison of several models that was cut off; there is nothing to resume."
        )
    started, now = ({"models": {each["name"]: each["group"] for each in models}} for models in _models(folder, record))
    refuse_other(folder, started, now)


def _models(folder: Path, record: Mapping[str, Any]) -> tuple[Any, Any]:
    return read_json(folder / MODELS_FILE, _CURE)["models"], record["models"]


def _entry(name: str, value: Any) -> dict[str, Any]:
    """Return model, layer, normalisation, kind of scores and notes of a model, as far as its value names them."""
    if isinstance(value, nn.Module):
        return {"model": value}
    if isinstance(value, tuple) and len(value) == 2:
        return {**_entry(name, value[0]), "layer": value[1]}
    if isinstance(value, Mapping) and "model" in value:
        for option in value:
            if option not in _OPTIONS:
                raise ValueError(f"model {quoted(name)} has the option {quoted(option)}. {closest(str(option), _OPTIONS)}")
        return {**_entry(name, value["model"]), **{key: value[key] for key in value if key != "model"}}
    if isinstance(getattr(value, "model", None), nn.Module):
        return {option: getattr(value, option) for option in _OPTIONS if getattr(value, option, None) is not None}
    raise TypeError(
        f"model {quoted(name)} is a {type(value).__name__}; expected a torch.nn.Module, a pair of it and its layer, a "
        "Classifier, or a dict with 'model' and 'layer', 'normalize' or 'scores'."
    )


def _fitting(methods: Sequence[Any] | Mapping[str, Any] | None, model: nn.Module) -> Any:
    """Return the methods without those that need evidence, if a model has none."""
    if methods is None or isinstance(model, SoftCamModel):
        return methods
    if isinstance(methods, Mapping):
        return {name: method for name, method in methods.items() if not _needs_evidence(method)}
    return [method for method in methods if not _needs_evidence(method)]


def _needs_evidence(method: Any) -> bool:
    wanted = method.method if isinstance(method, LayerExplainFunc) else method
    return any(known.needs == "evidence" and (wanted == name or wanted is known.cls) for name, known in METHODS.items())
