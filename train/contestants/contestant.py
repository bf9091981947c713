"""What a contestant is: how it is named on a command line, and what it is asked, as lines of JSON and after examples.

Nothing is loaded here, and nothing is sent.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from train.base.errors import TrainError, validation_fault
from train.base.run_folder import EVALUATION, RUN, resolve_run
from train.base.storage import MOST_STATE, read_file
from train.base.strict_json import parse_object
from train.data.dataset import Row, last_answer, parse_row, parse_row_line
from train.evaluate.scoring import Answer

Kind = Literal["base", "run", "adapter", "gguf", "endpoint", "recording"]
NO_ANSWER = "E963 no-answer"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn: temperature 0 takes the likeliest token each time; the same seed gives the same draw."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_new_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 256


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation to answer: that of ``row`` up to its last answer, which no contestant sees.

    With ``choices``, texts that may follow it, it is asked how likely each of them is, and none is written.
    """

    row: Row
    sampling: Sampling = field(default_factory=Sampling)
    choices: Sequence[str] = ()

    @property
    def id(self) -> str:
        """The row's."""
        return self.row.id

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """The messages before the answer; raises RowFault where the row has none."""
        messages = self.row.messages or []
        return messages[: last_answer(messages)]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why a request has no answer: the code of the error, such as "E925 too-long", and a sentence."""

    id: str
    code: str
    reason: str


OnAnswer = Callable[[Answer | Unanswered], None]
"""Hears of each request once, in any order, as soon as it is done."""
OnText = Callable[[str, str], bool]
"""Hears the id of a request and what was just written of its answer, and says whether it shall go on."""


class Contestant(Protocol):
    """A model that can be asked; `close` frees what it holds.

    ``digest`` tells it from every other: of its weights and template, or of url and model. ``memory`` is how many bytes
    it was planned to take, ``context_length`` how many tokens it reads, None where nobody knows.
    """

    name: str
    kind: Kind
    digest: str
    memory: int
    context_length: int | None
    has_logprobs: bool
    """Whether it can say how likely the choices of a request are."""

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Answer all ``requests``; one that cannot be answered is `Unanswered`, and stops no other."""
        ...

    def close(self) -> None:
        """Free the memory or the connections; it is not asked again."""
        ...


ADAPTER, BAD_CONTESTANT = "adapter_config.json", "E929 bad-contestant"


class EndpointSpec(BaseModel):
    """A model behind an OpenAI-compatible endpoint, and what may be spent on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[!\"$->@-~]*)?$", max_length=2048)] = Field(
        description='Where it is, such as "http://localhost:8000/v1"; prompts are sent there.'
    )
    model: Annotated[str, Field(min_length=1, max_length=512)] = Field(description="The model's name there.")
    api_key_env: Annotated[str, Field(pattern=r"^PAIRSMITH_[A-Z0-9_]{1,100}$")] | None = Field(
        default=None,
        description="The environment variable that holds the key; no file ever does. Names begin with PAIRSMITH_, so "
        "that somebody else's file reads no other secret.",
    )
    max_concurrency: int = Field(default=4, ge=1, le=256, description="Requests at the same time.")
    timeout: float = Field(default=60.0, gt=0, le=3600, description="Seconds that one request may take.")
    retries: int = Field(default=2, ge=0, le=20, description="Tries more after no answer, a 429 or a server's error.")
    price_in: float | None = Field(default=None, ge=0, description="Price of a million tokens of prompts.")
    price_out: float | None = Field(default=None, ge=0, description="Price of a million tokens of answers.")
    max_cost: float | None = Field(default=None, gt=0, description="Most that one command may cost, by these prices.")
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="What the endpoint calls the most tokens of an answer."
    )
    omit: frozenset[Literal["temperature", "seed", "max_tokens"]] = Field(
        default=frozenset(), description="Options that are not sent, because the endpoint refuses them."
    )

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if (self.price_in is None) != (self.price_out is None) or (self.max_cost and self.price_in is None):
            raise ValueError("max_cost needs price_in and price_out, and each of these the other")
        if "max_tokens" in self.omit and self.max_cost:
            raise ValueError("max_cost needs answers of bounded length: send max_tokens")
        return self


@dataclass(frozen=True, slots=True)
class Spec:
    """A contestant that was named but not opened: its kind, and where it is; an adapter may name its base."""

    name: str
    kind: Kind
    path: Path | None = None
    base: str | None = None
    endpoint: EndpointSpec | None = None


def parse_spec(name: str) -> Spec:
    """Return what ``name`` means.

    A run's folder, or that of a series, which stands for the run to take; the folder of an adapter, alone or as
    ADAPTER@BASE; a .gguf file; URL#MODEL; a .toml file with the fields of `EndpointSpec`; the folder of an evaluation,
    which is a recording; else a base: a folder, "tiny-base" or a hub id. Raises TrainError "E929 bad-contestant" for a
    file of another kind or a .toml file that does not fit, and "E942 unfinished-run" of a series without a model.
    """
    if name.startswith(("http://", "https://")):
        return Spec(name, "endpoint", endpoint=_endpoint_of(name))
    path = Path(name)
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return Spec(name, "gguf", path)
        if path.suffix.lower() == ".toml":
            return Spec(name, "endpoint", path, endpoint=_read_endpoint(path))
        raise _bad(f"{name} is no contestant", "Name a folder, a .gguf file, a .toml file or URL#MODEL.")
    if path.suffix.lower() in (".gguf", ".toml") and not path.is_dir():
        raise _bad(f"there is no file {name}", "See `train answer --help` for what --with takes.")
    if (path / EVALUATION).is_file():
        return Spec(name, "recording", path)
    if (run := resolve_run(path)) != path or (path / RUN).is_file():
        return Spec(name, "run", run)
    folder, base = (name, "") if (path / ADAPTER).is_file() else name.rpartition("@")[::2]
    if folder and (Path(folder) / ADAPTER).is_file():
        return Spec(name, "adapter", Path(folder), base or _base_of(Path(folder)))
    return Spec(name, "base", path if path.is_dir() else None, name)


def route_of(url: str) -> str:
    """Return where what is sent to ``url`` goes, and whether anybody on its way can read it."""
    parts = urlsplit(url)
    return f"{parts.netloc} ({'encrypted' if parts.scheme == 'https' else 'unencrypted, on this machine'})"


def _endpoint_of(name: str) -> EndpointSpec:
    url, _, model = name.partition("#")
    try:
        return EndpointSpec(url=url, model=model)
    except ValidationError:
        # What is wrong with it may be a key, so nothing of it is shown.
        raise _bad(
            "a url without #MODEL, or with a name, a key or a query in it, is not taken",
            "Write URL#MODEL; put a key into the environment and name it by api_key_env in a .toml file.",
        ) from None


def _read_endpoint(path: Path) -> EndpointSpec:
    try:
        return EndpointSpec.model_validate(tomllib.loads(read_file(path, most=MOST_STATE).decode("utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        fault = validation_fault(error) if isinstance(error, ValidationError) else error
        raise _bad(f"{path}: {fault}", "It is TOML with the keys url and model; see `train answer --help`.") from None


def _base_of(path: Path) -> str:
    try:
        base = json.loads(read_file(path / ADAPTER, most=MOST_STATE))["base_model_name_or_path"]
        if not isinstance(base, str) or not base:
            raise ValueError("no name of a base")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise _bad(f"{path / ADAPTER} does not name a base", f"Name it: {path}@BASE.") from None
    return base


def _bad(message: str, hint: str) -> TrainError:
    return TrainError(BAD_CONTESTANT, message, hint)


# What the model has to write instead; a text that no template refuses.
_PLACEHOLDER_ANSWER = {"role": "assistant", "content": "A"}
_SAMPLING = TypeAdapter(Sampling)
_CHOICES = TypeAdapter(list[Annotated[str, Field(min_length=1, strict=True)]])
BAD_REQUEST = "E928 bad-request"


def read_request(line: bytes, location: str, sampling: Sampling) -> Request:
    """Return the request on a line, drawn by ``sampling`` where it does not say otherwise.

    Raises TrainError "E928 bad-request" with ``location`` for a line that is none.
    """
    try:
        value = parse_object(line, location)
        # A row of an export ends with the answer; of a bare conversation the next turn is asked for.
        match value.get("messages"):
            case [*_, {"role": "assistant"}] | []:
                pass
            case [*messages]:
                value["messages"] = [*messages, dict(_PLACEHOLDER_ANSWER)]
        row = parse_row({"kind": "chat", "category": "", "cluster": value.get("id"), **value}, location)
        overrides = {name: value[name] for name in asdict(sampling) if name in value}
        sampling = _SAMPLING.validate_json(json.dumps(asdict(sampling) | overrides), strict=True)
        request = Request(row, sampling, _CHOICES.validate_python(value.get("choices") or []))
    except ValidationError as error:
        raise TrainError(BAD_REQUEST, f"{location}: {validation_fault(error)}") from None
    except TrainError as error:
        raise TrainError(BAD_REQUEST, error.message) from None
    if row.messages and not any(
        (message["content"] or "").strip() or message.get("tool_calls") for message in request.prompt
    ):
        raise TrainError(BAD_REQUEST, f"{location}: nothing is asked: no message before the answer says anything")
    return request


def read_shots(lines: Iterable[bytes]) -> list[Row]:
    """Return the rows of an export that may stand before a prompt; raises TrainError "E912 bad-dataset"."""
    rows = (parse_row_line(line, f"example {number}") for number, line in enumerate(lines, 1) if line.strip())
    return [row for row in rows if row.messages]


@dataclass(frozen=True)
class FewShotPrompt:
    """A good prompt, to compare tuning with: a system text, and ``num_shots`` examples of the prompt's own category.

    Which ones is decided by the ids alone, so that every contestant gets the same; never the prompt's own record, nor
    one of its cluster.
    """

    system: str = ""
    num_shots: int = 0
    examples: Sequence[Row] = field(default_factory=list)

    @classmethod
    def of(cls, system: Path | None, num_shots: int, examples: Sequence[Row]) -> FewShotPrompt:
        """Read the system text of a file; raises TrainError "E928 bad-request" where it cannot be read."""
        if num_shots and not examples:
            raise TrainError(BAD_REQUEST, "there are no rows to take examples from", "Name some: --shots-from.")
        try:
            text = "" if system is None else read_file(system, most=MOST_STATE).decode("utf-8").strip()
        except (OSError, ValueError) as error:
            raise TrainError(BAD_REQUEST, f"{system}: {error}", "It is a text in UTF-8.") from None
        return cls(text, num_shots, examples)

    def apply(self, request: Request) -> Request:
        """Return ``request`` with the system text and the examples before its conversation."""
        row = request.row
        if not row.messages or not (self.system or self.num_shots):
            return request
        has_system = row.messages[0]["role"] == "system"
        # The record's own system text stays where it has one; ours comes first.
        system = "\n\n".join(filter(None, [self.system, *(turn["content"] for turn in row.messages[:has_system])]))
        before: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        for shot in self._shots(row):
            assert shot.messages is not None, "only rows with messages are examples"
            turns = shot.messages[: last_answer(shot.messages) + 1]
            # An answer in an example is read, and is none of the record's own, whose likelihood is measured.
            before += [{**message, "weight": 0} for message in turns if message["role"] != "system"]
        return replace(request, row=replace(row, messages=[*before, *row.messages[has_system:]]))

    def _shots(self, row: Row) -> list[Row]:
        candidates = [shot for shot in self.examples if shot.id != row.id and shot.cluster != row.cluster]
        # Where the category has none, any will do better than none.
        same_category = [shot for shot in candidates if shot.category == row.category] or candidates
        return sorted(same_category, key=lambda shot: hashlib.sha256(shot.id.encode()).digest())[: self.num_shots]
