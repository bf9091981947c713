"""The bar of the tour above the keys, and what looks whether its step was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from textual.timer import Timer
from textual.widgets import Input

from curate.tui.chrome import TourBar, draw_frame
from curate.tui.frame_table import FrameTable

if TYPE_CHECKING:
    from curate.sessions.tour import Tour
    from curate.tui.context import HostApp

_CLOSING = "You have seen all of it, from a first look to scores. Now take records of your own: press g h, then i."
_EVERY = 0.4  # Seconds between two looks; nothing is drawn while nothing was done.


class TourGuide:
    """The tour in the open workspace, if there is one; it never keeps a key from anybody."""

    def __init__(self, app: HostApp) -> None:
        self._app = app
        self._tour: Tour | None = None
        self._timer: Timer | None = None
        self._since: int | None = None  # Decisions that there were when it began.

    @property
    def text(self) -> Text:
        """What the bar says; empty where there is no tour."""
        from curate.sessions.tour import STEPS

        tour, step = self._tour, self._tour.step if self._tour else None
        if tour is None:
            return Text()
        if step is None:
            return Text.assemble((" END OF THE TOUR  ", "strong"), _CLOSING, ("  (on Home: esc ends)", "muted"))
        head, keys = f" TOUR {tour.number + 1} of {len(STEPS)}  ", "  (on Home: t skips, esc ends)"
        return Text.assemble((head, "strong"), (step.text, "key"), f"\n {step.why}", (keys, "muted"))

    def begin(self) -> None:
        """Go on where the tour was left, or skip a step of it; where there is none, make a workspace for it."""
        from curate.sessions.tour import Tour

        if self._tour is not None and self._tour.step is not None:
            self._go_on(self._tour)
            return
        self.end()
        tour = Tour(self._app.root)
        if tour.number < 0:
            self._app.get_started("tour")
            return
        if tour.step is None:
            tour.go_to(0)
        self._tour, self._since = tour, None
        self._timer = self._app.set_interval(_EVERY, self._check_step)
        self._show()

    def end(self) -> bool:
        """Put the bar away and return whether there was one; `begin` goes on from there."""
        had_tour, self._tour = self._tour is not None, None
        self._stop_timer()
        self._show()
        return had_tour

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def _show(self) -> None:
        draw_frame(self._app.present(), TourBar)

    def _check_step(self) -> None:
        tour, app = self._tour, self._app
        if tour is not None and app.following.is_loaded:
            if self._since is None:
                # What was decided before does not count.
                self._since = app.project.num_decisions
            with app.attempt():
                if self._is_done(tour, self._since):
                    self._go_on(tour)

    def _go_on(self, tour: Tour) -> None:
        tour.go_to(tour.number + 1)
        self._show()
        if tour.step is None:
            # The closing word stays in the bar: a screen that says something else does not take it away.
            self._stop_timer()

    def _is_done(self, tour: Tour, since: int) -> bool:
        screen, step = self._app.present(), tour.step
        is_there = step is not None and step.screen == screen.NAME
        match step.ends if step else "":
            case "look":
                return is_there and any(table.cursor for table in screen.query(FrameTable))
            case "filter":
                return is_there and any(field.value and not field.has_focus for field in screen.query(Input))
            case "compare" if not (is_there and any(len(table.source) for table in screen.query(FrameTable))):
                # The run may have ended while Compare shows that there is none yet.
                return False
        return tour.is_done(self._app.project, since)
