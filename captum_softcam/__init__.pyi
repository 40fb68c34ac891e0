from . import attr as attr
from . import data as data
from . import evaluation as evaluation
from . import metrics as metrics
from . import report as report
from . import softcam as softcam
from .attr.class_activation_map import LayerClassActivationMap as LayerClassActivationMap
from .attr.recipro_cam import LayerReciproCam as LayerReciproCam
from .attr.score_cam import LayerScoreCam as LayerScoreCam
from .attr.soft_cam import LayerSoftCam as LayerSoftCam
from .attr.suggest import suggest_layers as suggest_layers
from .softcam.classifiers import load_classifier as load_classifier
from .softcam.classifiers import load_embedded as load_embedded
from .softcam.convert import convert_to_softcam as convert_to_softcam
from .softcam.loss import ElasticNetEvidenceLoss as ElasticNetEvidenceLoss
from .softcam.model import EvidenceHead as EvidenceHead
from .softcam.model import SoftCamModel as SoftCamModel

__version__: str
