"""Compare attribution methods under the same metrics on the same samples."""

from captum_softcam.evaluation.accuracy import accuracy
from captum_softcam.evaluation.adapter import LayerExplainFunc
from captum_softcam.evaluation.comparison import Comparison, Example
from captum_softcam.evaluation.controls import CONTROLS, CentredGaussian, EdgeMap, RandomMap
from captum_softcam.evaluation.costs import CostMeter
from captum_softcam.evaluation.engine import Engine, LocalEngine, RayEngine
from captum_softcam.evaluation.journal import Journal, is_complete, refuse_existing
from captum_softcam.evaluation.part import Failure, Part
from captum_softcam.evaluation.runner import compare_methods, explain_sample
from captum_softcam.evaluation.view import View
from captum_softcam.evaluation.work import Work

__all__ = [
    "CONTROLS",
    "CentredGaussian",
    "Comparison",
    "CostMeter",
    "EdgeMap",
    "Engine",
    "Example",
    "Failure",
    "Journal",
    "LayerExplainFunc",
    "LocalEngine",
    "Part",
    "RandomMap",
    "RayEngine",
    "View",
    "Work",
    "accuracy",
    "compare_methods",
    "explain_sample",
    "is_complete",
    "refuse_existing",
]
