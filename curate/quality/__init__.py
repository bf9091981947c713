"""What the records are like: measures of each, balance of the whole, labels that look wrong, and pages about it."""

from curate.quality.balance import Effect, Grouping, effects, groupings, properties_of
from curate.quality.difficulty import difficulties
from curate.quality.measures import Measures, measure
from curate.quality.overview import Overview, overview
from curate.quality.page import html_page
from curate.quality.suspects import Suspect, Suspects, find_suspects

__all__ = [
    "Effect",
    "Grouping",
    "Measures",
    "Overview",
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
