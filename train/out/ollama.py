"""The merged model with a Modelfile whose template is proved to be the model's own on the data set's conversations."""

from __future__ import annotations

from pathlib import Path

from train import say
from train.data import Row
from train.errors import TrainError
from train.out import merged
from train.out.adapter import stop_texts
from train.out.gotemplate import GoTemplate, NotGoError, conversations
from train.out.source import Source, Written
from train.render import Renderer, RowFault

_INSTEAD = (
    "--to merged, then convert_hf_to_gguf.py of llama.cpp and `ollama create` on the GGUF, "
    "which carries the Jinja template"
)


def write(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with model/ and a Modelfile.

    Raises TrainError "E905 cannot-express" with the records whose text the Go template would not make.
    """
    template = proved_template(source)
    stops = stop_texts(source)
    if odd := [stop for stop in stops if "\n" in stop or '"""' in stop]:
        raise TrainError("E905 cannot-express", f"a Modelfile cannot hold the stop {odd[0]!r}", _INSTEAD)
    (work / "model").mkdir()
    merged.write(source, work / "model", dtype)
    lines = [
        "FROM ./model",
        f'TEMPLATE """{template.source()}"""',
        *(f'PARAMETER stop """{stop}"""' if '"' in stop else f'PARAMETER stop "{stop}"' for stop in stops),
        "PARAMETER temperature 0",
    ]
    (work / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if source.renderer.encoder.is_adding_bos:
        say.talk("the Modelfile's template leaves the beginning-of-text token to Ollama, whose runner adds it")
    return Written(work / "model", "ollama create NAME -f FOLDER/Modelfile")


def proved_template(source: Source) -> GoTemplate:
    """Return the Go template that makes the prompt of every conversation of the data set as the model's own does.

    It is told where a longer conversation, or one with a system, would be rendered otherwise. Raises TrainError
    "E905 cannot-express".
    """
    template = GoTemplate()
    faults: dict[str, list[str]] = {}
    for row in (row for rows in source.dataset.splits.values() for row in rows if row.messages):
        try:
            _learn(template, source.renderer, row)
        except (RowFault, NotGoError) as fault:
            faults.setdefault(str(fault), []).append(row.id)
    if faults:
        told = "; ".join(f"{len(ids)} conversations: {reason}: {say.named(ids)}" for reason, ids in faults.items())
        raise TrainError("E905 cannot-express", told, _INSTEAD)
    for messages in conversations():
        try:
            _learn(template, source.renderer, Row("", "", "", [dict(one) for one in messages], None, None))
        except RowFault:
            # A template may refuse what nobody of the data set had, and then no server sends it.
            continue
        except NotGoError as fault:
            roles = ", ".join(message["role"] for message in messages[:-1])
            say.talk(f"warning: a conversation of {roles}, which the data has not, differs under Ollama: {fault}")
    return template


def _learn(template: GoTemplate, renderer: Renderer, row: Row) -> None:
    located = renderer.located(row)
    bos = renderer.tokenizer.bos_token if renderer.encoder.is_adding_bos else ""
    begins = bos if located.prompt.startswith(bos) else ""
    template.learn(located, row.tools, bos=begins)
    if begins + template.render(located.messages[:-1]) != located.prompt:
        raise NotGoError("the Go template makes another text")
