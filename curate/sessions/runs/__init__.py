"""Training runs of a project: begun, followed, stopped, resumed, compared, by what lies in their folders."""

from curate.sessions.runs.comparison import RunComparison, ScoreRow, compare_runs
from curate.sessions.runs.contrast import Regression, RunDifference, differences, gate_command, regressions
from curate.sessions.runs.errand import Errand, Said, begin, gate, plan, resume
from curate.sessions.runs.metrics import End, Evaluation, Metrics, TrainingStep, thinned
from curate.sessions.runs.paired import Paired, PairedComparison, compare
from curate.sessions.runs.run import Run, Standing, log_tail, read_run, runs_of

__all__ = [
    "RunComparison",
    "ScoreRow",
    "compare_runs",
    "PairedComparison",
    "RunDifference",
    "End",
    "Errand",
    "Evaluation",
    "Metrics",
    "Paired",
    "Regression",
    "Run",
    "Said",
    "Standing",
    "TrainingStep",
    "begin",
    "compare",
    "differences",
    "gate",
    "gate_command",
    "log_tail",
    "read_run",
    "plan",
    "regressions",
    "resume",
    "runs_of",
    "thinned",
]
