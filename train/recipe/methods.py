"""The sections that say how a model is tuned: adapters, the mixture of an epoch, and when to stop early."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from train.recipe.section import Name, Section, Share

SHIPPED_TEXT = "general"
"""The value of mixing.replay that means the general text that ships with us."""


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
    def _fits_together(self) -> LoraRecipe:
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
