"""The sections of a recipe that say how a model is tuned and who judges it, and what every section shares."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
SHIPPED_TEXT = "general"
"""The value of mixing.replay that means the general text that ships with us."""


def _check_printable(text: str) -> str:
    """Refuse control characters, NUL and lone surrogates: no path or name has them, and they break other programs."""
    control = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")), None)
    if control is not None:
        raise ValueError(f"must have no control character, but has U+{ord(control):04X}")
    return text


Name = Annotated[str, AfterValidator(_check_printable)]


class Section(BaseModel):
    """Strict: unknown keys are refused, types are never coerced, NaN and infinity are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LoraRecipe(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685); used when method is "lora"."""

    rank: int = Field(default=16, ge=1, le=1024, description="Width of the adapters.")
    alpha: float = Field(default=32, gt=0, le=4096, description="The adapter's output is scaled by alpha / rank.")
    dropout: Share = Field(default=0.0, description="Dropout before the adapters, 0 to below 1.")
    targets: Literal["all-linear"] | list[str] = Field(
        default="all-linear",
        description='Modules that get an adapter: "all-linear" (not the output head) or a list of names.',
    )
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = Field(
        default="default",
        description='How adapters begin: "default", "gaussian" and "orthogonal" change nothing at first; "pissa" and '
        '"olora" take the largest part of each matrix over, and are turned into plain adapters when saved.',
    )
    rslora: bool = Field(
        default=False, description="Rank-stabilised: scale by alpha / sqrt(rank), so that high ranks learn too."
    )
    dora: bool = Field(
        default=False, description="Weight-decomposed: learn the length of each row beside its direction; slower."
    )
    quantize: Literal["nf4"] | None = Field(
        default=None, description='QLoRA: keep the frozen weights in 4 bits ("nf4"). Needs CUDA and bitsandbytes.'
    )

    @model_validator(mode="after")
    def _check_combination(self) -> LoraRecipe:
        takes_over = self.init in ("pissa", "olora")
        if takes_over and self.dora:
            raise ValueError(
                f'init "{self.init}" changes the weights that dora measures, and could not be saved as an adapter of '
                'the base: use init "default" with dora'
            )
        if takes_over and self.quantize:
            raise ValueError(f'init "{self.init}" needs whole weights, which quantize does not keep: use one of them')
        if self.init == "orthogonal" and self.rank % 2:
            raise ValueError(f'init "orthogonal" needs an even rank, not {self.rank}')
        return self


class MixingRecipe(Section):
    """Which categories an epoch is made of; as it stands here, each record once."""

    temperature: float = Field(
        default=1.0, ge=1, le=100,
        description="1 takes categories as large as they are; above it small ones are repeated and large ones thinned, "
        "in proportion to size^(1/temperature).",
    )  # fmt: skip
    caps: dict[str, Annotated[int, Field(ge=1, le=1_000_000_000)]] = Field(
        default_factory=dict, description="Most records that an epoch takes of a category, such as { chat = 500 }."
    )
    replay: Annotated[Name, Field(min_length=1)] | None = Field(
        default=None,
        description="General text that is trained along against forgetting: a JSONL or text file, or "
        f'"{SHIPPED_TEXT}" for ours. Texts that eval.general measures are left out.',
    )
    replay_share: Annotated[float, Field(gt=0, le=0.9)] = Field(
        default=0.05, description="Share of an epoch's records that are replayed text, where replay names one."
    )

    @property
    def is_plain(self) -> bool:
        """True where an epoch is each record once."""
        return self.temperature == 1 and not self.caps and self.replay is None


class GuardRecipe(Section):
    """When a run stops before its last step; off unless asked for, since a small validation split is noisy."""

    regress: Share | None = Field(
        default=None, description="Stop once a category's validation score stays lower by more than this (0 to 1)."
    )
    against: Literal["base", "best"] = Field(
        default="base", description='Lower than what: the "base" model\'s score or the category\'s "best" so far.'
    )
    plateau: bool = Field(default=False, description="Stop once validation as a whole no longer improves.")
    patience: int = Field(
        default=3, ge=1, le=10_000, description="How many validations in a row it takes for either of the two."
    )

    @property
    def is_on(self) -> bool:
        """True where something may stop the run."""
        return self.regress is not None or self.plateau


class JudgeRecipe(Section):
    """A model behind an OpenAI-compatible endpoint that compares answers; off, and nothing is sent, without a url."""

    url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[!-~]*)?$", max_length=2048)] | None = Field(
        default=None,
        description='Where the judge is, such as "http://localhost:8000/v1"; records are sent there, so the default is '
        "none.",
    )
    model: Name = Field(default="", max_length=512, description="The judge's name there; needed with a url.")
    api_key_env: Annotated[str, Field(pattern=r"^PAIRSMITH_[A-Z0-9_]{1,100}$")] | None = Field(
        default=None,
        description="The environment variable that holds the key, such as PAIRSMITH_JUDGE_KEY; a recipe never holds "
        "one. Names begin with PAIRSMITH_, so that the recipe of somebody else reads no other secret.",
    )
    also: Literal["nothing", "validation", "all"] = Field(
        default="validation",
        description='Records of categories with the scorer "judge" are always sent. Of the others: "nothing", those of '
        '"validation", or "all", test records included.',
    )
    max_records: int = Field(default=200, ge=1, le=1_000_000, description="Most records that are sent.")
    rubric: str = Field(
        default="Prefer the answer that does what the prompt asks, is correct, and agrees with the reference.",
        max_length=20_000,
        description="What makes an answer the better one, in words for the judge.",
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | Auto = Field(
        default=0.0, description='Sampling temperature; "auto" leaves it to the endpoint.'
    )
    timeout: float = Field(default=60.0, gt=0, le=3600, description="Seconds that one request may take.")
    retries: int = Field(
        default=2,
        ge=0,
        le=20,
        description="Further tries after no answer, no verdict, a 429 or a server's error; with a pause.",
    )
    max_concurrency: int = Field(default=4, ge=1, le=256, description="Requests at the same time.")
