"""What the records are like: measures of each, balance of the whole, labels that look wrong, and pages about it."""

from curate.checks.quality.balance import Effect, Grouping, effects, groupings, properties_of
from curate.checks.quality.difficulty import difficulties
from curate.checks.quality.measures import Measures, measure
from curate.checks.quality.overview import QualityOverview, overview
from curate.checks.quality.page import html_page
from curate.checks.quality.suspects import Suspect, Suspects, find_suspects

__all__ = [
    "Effect",
    "Grouping",
    "Measures",
    "QualityOverview",
    "Suspect",
    "Suspects",
    "difficulties",
    "effects",
    "find_suspects",
    "groupings",
    "html_page",
    "measure",
    "overview",
    "properties_of",
]
