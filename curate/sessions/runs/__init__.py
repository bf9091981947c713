"""Training runs seen from the workshop: begun, followed, stopped, resumed, compared, by what lies in their folders."""

from curate.sessions.runs.beside import Beside, Row, beside
from curate.sessions.runs.contrast import Difference, Regression, differences, gate_command, regressions
from curate.sessions.runs.errand import Errand, Said, begin, gate, plan, resume
from curate.sessions.runs.look import Run, Standing, log_tail, look, runs_of
from curate.sessions.runs.metrics import End, Look, Metrics, Step, thinned
from curate.sessions.runs.paired import Comparison, Paired, compare

__all__ = [
    "Beside",
    "Row",
    "beside",
    "Comparison",
    "Difference",
    "End",
    "Errand",
    "Look",
    "Metrics",
    "Paired",
    "Regression",
    "Run",
    "Said",
    "Standing",
    "Step",
    "begin",
    "compare",
    "differences",
    "gate",
    "gate_command",
    "log_tail",
    "look",
    "plan",
    "regressions",
    "resume",
    "runs_of",
    "thinned",
]
