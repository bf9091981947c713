"""`curate label --calibration`: how far suggestions may be believed, by what people answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.base.tables import counted, table

if TYPE_CHECKING:
    from curate.project.labels import Calibration
    from curate.sessions.labelling import LabelSession


_FEWEST, _FEW = 30, ": too few to tell"


def print_calibration(session: LabelSession, question: str) -> int:
    """Print a reliability table of the model of words, and of the one that suggests by likelihoods where there is one.

    Exit 1 where neither can be measured.
    """
    session.begin(session.prepare(session.wish_for(question, "file", is_all=True)))
    assert session.queue is not None, "it was begun"
    is_measured = False
    for model in ["", *([session.suggest_with] if session.suggest_with else [])]:
        title = console.one_line(model, 60) if model else "model of words, out of sample"
        suggester = session.suggester_by(model)
        try:
            suggester.learn(session.queue, 0)
            calibration = suggester.calibration()
        except CurateError as error:
            console.talk(f"{title}: {error.code}: {error.message}. {error.hint}")
            continue
        finally:
            suggester.close()
        if calibration is None:
            lacks = suggester.suggestions.lacks if suggester.suggestions else ""
            console.talk(f"{title}: {lacks or 'nobody has answered yet, as far as you may see'}")
            continue
        is_measured = True
        for line in _lines(f"{session.question.name}: {title}", calibration):
            console.data(line)
    return Exit.OK if is_measured else Exit.FINDINGS


def _lines(title: str, calibration: Calibration) -> list[str]:
    rows = [[str(num), f"{mean:.2f}", f"{share:.2f}"] for num, mean, share in calibration.bins]
    error = f"expected calibration error {calibration.error:.2f} over {counted(calibration.num, 'answer')}"
    return [title, *table(["answers", "sure", "right"], rows), error + (_FEW if calibration.num < _FEWEST else ""), ""]
