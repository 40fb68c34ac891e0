from .axioms import *
from .baselines import *
from .coherence import *
from .extent import *
from .imputation import *
from .localisation import *
from .masks import *
from .mosaics import *
from .perturbation import *
from .randomisation import *
from .robustness import *
from .segmentation import *
from .subsets import *

BASELINES: tuple[str, ...]
