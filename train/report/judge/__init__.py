"""A judge: another model, behind an OpenAI-compatible endpoint, says which of two answers is better.

Nothing leaves the machine unless the recipe names a url, and what is sent is said before it is.
"""

from train.report.judge.pairs import judge_answers, require_judge

__all__ = ["judge_answers", "require_judge"]
