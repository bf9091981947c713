"""The tokens of a record as a run would train on them, with the proof of the trainer, which is asked as a program."""

from __future__ import annotations

from curate.base.console import one_line
from curate.base.file_guard import inside
from curate.base.record import CurateError
from curate.base.resources import require_trainer, trainer_command
from curate.project.data import ProjectData
from curate.sessions.runs import CommandResult, Errand


def preview_tokens(errand: Errand, data: ProjectData, name: str) -> CommandResult:
    """Return what ``train preview`` says of the record ``name`` in the newest dataset: each text, whether trained.

    It takes seconds: call it in a thread.

    Raises:
        CurateError: E940 without the extra; E917 before the first export; E916 for a record that is not in the dataset.
    """
    require_trainer("rendering a record", "take the dataset to a machine that has it")
    dataset = data.latest_dataset()
    if dataset is None:
        raise CurateError("E917 nothing-to-export", "there is no dataset yet", "`curate export` makes one.")
    if name not in data.pins():
        message = f"{one_line(name, 60)} is in no split of {dataset.name}"
        raise CurateError("E916 unknown-record", message, "It was dropped, or came later: the next export decides.")
    recipe = data.settings.recipe
    chosen = ["--recipe", str(inside(data.root, data.root / recipe))] if recipe else []
    return errand.run(trainer_command("preview", str(dataset), *chosen, "--id", name))
