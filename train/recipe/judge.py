"""The table of a recipe that names a judge."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from train.recipe.section import Auto, Name, Section


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
    send_flagged: bool = Field(
        default=False, description="Send records with findings X7xx too, such as those with personal data."
    )
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
    min_human: int = Field(
        default=50, ge=1, le=1_000_000,
        description="Pairs that people must have judged too (`curate compare --blind RUN:base RUN`), before the judge "
        "counts as calibrated.",
    )  # fmt: skip
    min_kappa: float = Field(
        default=0.6, ge=-1, le=1, description="Cohen's kappa with them, below which the judge counts as uncalibrated."
    )
