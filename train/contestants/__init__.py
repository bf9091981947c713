"""Models that are asked: a base, run, adapter, .gguf file, one behind an endpoint, or a recording; one kind a file."""

from __future__ import annotations

from pathlib import Path

from train.base.errors import require_extra
from train.contestants.contestant import Contestant, EndpointSpec, Request, Sampling, Unanswered, parse_spec
from train.evaluate.scoring import Answer


def open_contestant(name: str, *, device: str = "auto", threads: int | None = None) -> Contestant:
    """Open the contestant that ``name`` means by `parse_spec`, and load nothing that another kind needs.

    Raises TrainError: E929 bad-contestant; E940 missing-extra where its kind needs a package that is not installed; and
    what loading it raises.
    """
    spec = parse_spec(name)
    # torch, httpx2 and llama.cpp take their time to import, and each kind needs one of them.
    if spec.endpoint is not None:
        require_extra("httpx2", "a model behind an endpoint", "endpoint")
        from train.contestants.endpoint import EndpointContestant, answers_folder

        return EndpointContestant(spec.endpoint, spec.name, answers_folder())
    if spec.kind == "recording":
        from train.contestants.chat_completions import RecordingContestant

        return RecordingContestant(Path(spec.name))
    if spec.kind == "gguf":
        from train.contestants.gguf import GgufContestant

        assert spec.path is not None, "a file has a path"
        return GgufContestant(spec.path, spec.name, threads=threads)
    from train.contestants.local import open_local

    return open_local(spec, device=device, threads=threads)
