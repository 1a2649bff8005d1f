"""Evaluation: test sets that can be rebuilt anywhere, methods, runs that resume where they stopped, and reports."""

from codeprior.evaluation.ablation import Cells, Figures, ablation_table
from codeprior.evaluation.cache import DegradedCache
from codeprior.evaluation.compare import Compared, FolderPlan, compare_folders
from codeprior.evaluation.faces import Chosen, Face, chosen_faces, read_face
from codeprior.evaluation.folders import Folders, Measured, measure_folders, pair_folders
from codeprior.evaluation.groups import index_groups, skin_angles, tone_groups
from codeprior.evaluation.methods import (
    Asked,
    Method,
    Methods,
    asked_method,
    load_methods,
    state_checksum,
    teacher_method,
    weights_checksum,
)
from codeprior.evaluation.runs import Pictures, Run, run
from codeprior.evaluation.session import Plan, evaluate, shown
from codeprior.evaluation.sets import Condition, Pairs, TestSet, build, drawn_set
from codeprior.evaluation.severity import SEVERITY_FILES, Severity, measure_severity, plot_severity
from codeprior.evaluation.summary import (
    Verified,
    group_table,
    source_table,
    subset,
    summary_tables,
    verification,
    verification_table,
    worse_share,
)
from codeprior.evaluation.sweeps import SWEEPS, Level, Sweep, levels
from codeprior.evaluation.validation import FixedFaces, figures, fixed_faces
from codeprior.evaluation.worst import Worst, worst_faces, worst_picture

__all__ = [
    "SEVERITY_FILES",
    "SWEEPS",
    "Asked",
    "Cells",
    "Chosen",
    "Compared",
    "Condition",
    "DegradedCache",
    "Face",
    "Figures",
    "FixedFaces",
    "FolderPlan",
    "Folders",
    "Level",
    "Measured",
    "Method",
    "Methods",
    "Pairs",
    "Pictures",
    "Plan",
    "Run",
    "Severity",
    "Sweep",
    "TestSet",
    "Verified",
    "Worst",
    "ablation_table",
    "asked_method",
    "build",
    "chosen_faces",
    "compare_folders",
    "drawn_set",
    "evaluate",
    "figures",
    "fixed_faces",
    "group_table",
    "index_groups",
    "levels",
    "load_methods",
    "measure_folders",
    "measure_severity",
    "pair_folders",
    "plot_severity",
    "read_face",
    "run",
    "shown",
    "skin_angles",
    "source_table",
    "state_checksum",
    "subset",
    "summary_tables",
    "teacher_method",
    "tone_groups",
    "verification",
    "verification_table",
    "weights_checksum",
    "worse_share",
    "worst_faces",
    "worst_picture",
]
