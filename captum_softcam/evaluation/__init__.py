"""Compare attribution methods under the same metrics on the same samples."""

from captum_softcam.evaluation.accuracy import accuracy
from captum_softcam.evaluation.comparison import Comparison, Example
from captum_softcam.evaluation.controls import CONTROLS, CentredGaussian, EdgeMap, RandomMap
from captum_softcam.evaluation.costs import CostMeter
from captum_softcam.evaluation.engine import Engine, LocalEngine, RayEngine
from captum_softcam.evaluation.explain_func import LayerExplainFunc
from captum_softcam.evaluation.result import Failure
from captum_softcam.evaluation.runner import compare_methods, explain_sample
from captum_softcam.evaluation.view import View

__all__ = [
    "CONTROLS",
    "CentredGaussian",
    "Comparison",
    "CostMeter",
    "EdgeMap",
    "Engine",
    "Example",
    "Failure",
    "LayerExplainFunc",
    "LocalEngine",
    "RandomMap",
    "RayEngine",
    "View",
    "accuracy",
    "compare_methods",
    "explain_sample",
]
