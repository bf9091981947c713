"""How a contestant is named on a command line, and what that name means; nothing is loaded, and nothing is sent."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from train.base.errors import TrainError, validation_fault
from train.base.run_folder import EVALUATION, RUN, model_run
from train.base.storage import MOST_STATE, read_file
from train.contestants.contestant import Kind

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
    if (run := model_run(path)) != path or (path / RUN).is_file():
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
