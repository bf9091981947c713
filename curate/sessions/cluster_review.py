"""Going through clusters: what is chosen for each, kept on the disk at once, and the one act that writes all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import astuple, dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Literal

from curate.base.events import Decision, Drop, Edit, Label, Restore
from curate.base.file_guard import MOST_DOCUMENT, inside, read_file
from curate.base.record import CurateError, Json
from curate.base.storage import make_cache, write_atomic
from curate.jsonl import pointer_of
from curate.project.answers import answer_now
from curate.project.drafts import FOLDER, safe_name
from curate.project.fold import RecordState
from curate.project.repeats import excluded_by
from curate.schema import Shape
from curate.schema.view import at, put
from curate.sessions.clusters import ClusterMember, Clusters, ReviewCluster
from curate.similarity.dedupe import Duplicate

What = Literal["keep", "merge", "drop", "leave"]
WHATS: tuple[What, ...] = ("keep", "merge", "drop", "leave")
KINDS: dict[str, Callable[[ReviewCluster], bool]] = {
    "all": lambda _: True,
    "leaks": lambda cluster: cluster.is_leak,
    "exact": lambda cluster: cluster.kind == "exact",
    "near": lambda cluster: cluster.kind == "near",
    "conflicts": lambda cluster: cluster.kind == "conflict",
    "alike": lambda cluster: cluster.kind == "alike",
}  # Which clusters can be gone through.
_VERSION = 1
_JOINED = ("meta", "labels")
# What a record is and says stays its own: a merge takes over what is said about it.
_OWN = (
    "id", "split", "ignore", "system", "completion", "messages", "tools", "text",
    "chosen", "rejected", "answers", "liked",
)  # fmt: skip
_EMPTY: tuple[Json, ...] = (None, "", [], {})


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be done with a cluster, as it was seen with ``keeper`` and ``other`` side by side.

    keep and merge: ``keeper`` stays and ``gone`` go; drop: ``gone`` is ``other`` alone; leave: nobody goes.
    """

    cluster: str
    what: What
    keeper: str
    other: str
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """How many clusters each choice was made for, and what that changes."""

    counts: Mapping[What, int]
    num_gone: int
    num_leaks_fixed: int


@dataclass(frozen=True, slots=True)
class Merge:
    """The decisions on the record that stays, and what they come to.

    ``taken`` names what was taken over, ``refused`` what the schema does not allow there, ``differing`` where both had
    a value, where the record that stays keeps its own, and ``open`` questions that the others disagree on.
    """

    keeper: str
    decisions: list[Decision]
    taken: list[str]
    refused: list[str]
    differing: list[str]
    open: list[str]


@dataclass(frozen=True, slots=True)
class StagedAct:
    """The decisions of an act, what the merges among them have taken over, and choices that cannot hold any more.

    ``late`` are those whose record that was to stay somebody has dropped meanwhile; nothing of them is decided.
    """

    decisions: list[Decision]
    merges: list[Merge]
    late: list[Choice]


def choose(cluster: ReviewCluster, what: What, keeper: str, other: str) -> Choice:
    """Return what ``what`` means for a cluster of which two records (E916), ``keeper`` and ``other``, were compared.

    keep: ``keeper`` stays, what repeats it goes, and so does ``other`` with what repeats that. merge: the same, but
    what ``keeper`` lacks is taken over from them. drop: ``other`` goes, whatever else is in the cluster stays. leave:
    all stay, and the cluster does not come again unless it grows. Other conflicts of ``keeper`` stay.
    """
    if keeper == other:
        raise CurateError("E916 unknown-record", f"{keeper!r} cannot be compared with itself", "Name two records.")
    repeats = [*cluster.relatives(keeper), *cluster.relatives(other)]
    going = {"drop": [other], "leave": []}.get(what, repeats)
    return Choice(cluster.name, what, keeper, other, tuple(dict.fromkeys(name for name in going if name != keeper)))


def choose_alike(clusters: Clusters, choice: Choice) -> list[Choice]:
    """Return what ``choice`` means for each open cluster of the same shape, its own included.

    Records match by split, by tie, and by preference among those: to keep the train copy keeps it everywhere.
    """
    cluster = clusters.by_name[choice.cluster]
    # Roles and not ids: which record stands where is what clusters of one shape have in common.
    roles = cluster.roles()
    keeper, other = roles.index(choice.keeper), roles.index(choice.other)
    alike = [(like, like.roles()) for like in clusters.open if like.shape == cluster.shape]
    return [choose(like, choice.what, names[keeper], names[other]) for like, names in alike]


def act_of(
    clusters: Clusters, choices: Iterable[Choice], state: Callable[[str], RecordState], shape: Shape
) -> StagedAct:
    """Return all decisions that ``choices`` mean; ``state`` gives a record as it is now, E916 for one that is gone."""
    act = StagedAct([], [], [])
    chosen: list[Choice] = []
    for choice in choices:
        is_late = choice.gone and state(choice.keeper).dropped is not None
        (act.late if is_late else chosen).append(choice)
    reasons = _reasons(clusters, chosen)
    for choice in chosen:
        if choice.what == "leave":
            members = clusters.by_name[choice.cluster].members
            staying = [member.id for member in members if not member.is_wanted]
            act.decisions.extend(Restore(name) for name in staying if state(name).dropped is None)
            continue
        if choice.what == "merge":
            merge = merged(state(choice.keeper), [state(name) for name in choice.gone], shape)
            act.merges.append(merge)
            act.decisions.extend(merge.decisions)
        going = [name for name in choice.gone if state(name).dropped is None]
        act.decisions.extend(reasons[choice.cluster, name] for name in going)
    return act


def _reasons(clusters: Clusters, choices: Iterable[Choice]) -> dict[tuple[str, str], Drop]:
    # numpy comes with it.
    from curate.similarity.dedupe.nearest import likeness

    pairs = [(clusters.by_name[choice.cluster], choice.keeper, name) for choice in choices for name in choice.gone]
    records = [(cluster.member(keeper).record, cluster.member(name).record) for cluster, keeper, name in pairs]
    reasons = {}
    for (cluster, keeper, name), like in zip(pairs, likeness(records, clusters.settings), strict=True):
        if like.is_exact or cluster.member(name).family == cluster.member(keeper).family:
            reason = excluded_by(Duplicate(name, keeper, like.score, "exact" if like.is_exact else "near"))
        else:
            # No finding: somebody has decided between two that say different things.
            reason = Drop(name, f"is like {keeper}, which was kept", of=keeper, score=like.score)
        reasons[cluster.name, name] = reason
    return reasons


def merged(keeper: RecordState, others: Sequence[RecordState], shape: Shape) -> Merge:
    """Return what ``keeper`` takes over from ``others``, the first one that has it first.

    Metadata and labels of the line are joined key by key, and lists in them item by item; other keys of the line are
    taken where the keeper has none or an empty value, but never what a record says. Answers to label questions are
    taken where the keeper has none, as answers of the person who merges.
    """
    result = Merge(keeper.record.id, [], [], [], [], [])
    line: dict[str, Json] = deepcopy(dict(keeper.record.data))
    for other in others:
        for path, value in list(_offers(line, dict(other.record.data), shape, result)):
            draft = deepcopy(line)
            # Only objects, or nothing, may lead to the place.
            if all(isinstance(at(draft, path[:depth]), dict | None) for depth in range(len(path))):
                put(draft, path, value)
            if draft != line and shape.is_valid(draft):
                line = draft
                result.taken.append(pointer_of(path))
            else:
                result.refused.append(pointer_of(path))
    changes = {key: value for key, value in line.items() if keeper.record.data.get(key) != value}
    if changes:
        result.decisions.append(Edit(keeper.record.id, changes))
    result.decisions.extend(_answers(keeper, others, result))
    return result


def _offers(
    line: dict[str, Json], other: dict[str, Json], shape: Shape, result: Merge
) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Yield the path and the new value of what ``other`` knows and ``line`` does not."""
    view = shape.view.paths if shape.view else {}
    prompt = shape.view.prompt if shape.view else []
    joined = [tuple(view[name]) for name in _JOINED if name in view]
    own = {path[0] for path in (*(view[name] for name in _OWN if name in view), *prompt)}
    for path in joined:
        yield from _joins(at(line, path), at(other, path), path, result)
    for key, value in other.items():
        if key in own or any(path[0] == key for path in joined) or value in _EMPTY:
            continue
        if line.get(key) in _EMPTY:
            yield (key,), value
        elif line[key] != value:
            result.differing.append(pointer_of((key,)))


def _joins(mine: Json, theirs: Json, path: tuple[str, ...], result: Merge) -> Iterator[tuple[tuple[str, ...], Json]]:
    if theirs in _EMPTY or mine == theirs:
        return
    if mine in _EMPTY:
        yield path, theirs
    elif isinstance(mine, dict) and isinstance(theirs, dict):
        for key, value in theirs.items():
            yield from _joins(mine.get(key), value, (*path, key), result)
    elif isinstance(mine, list) and isinstance(theirs, list):
        if more := [item for item in theirs if item not in mine]:
            yield path, [*mine, *more]
    else:
        result.differing.append(pointer_of(path))


def _answers(keeper: RecordState, others: Sequence[RecordState], result: Merge) -> Iterator[Decision]:
    known = {name: keeper.record.labels.get(name) for name in (*keeper.answers, *keeper.resolved)}
    for other in others:
        for question in dict.fromkeys((*other.answers, *other.resolved)):
            # Which side it means there may be the other one here.
            _, value = answer_now(other.record.labels.get(question), other.texts.get(question, ()), keeper.record)
            if value is None or question in other.disagreements():
                result.open.append(question)
            elif question not in known:
                known[question] = value
                result.taken.append(f"label {question}")
                yield Label(keeper.record.id, question, value)
            elif value != known[question]:
                result.differing.append(f"label {question}")


class Staged:
    """One annotator's choices, step by step; a later one on the same cluster takes the place of an earlier one.

    A step is what was chosen with one key, be it for one cluster or for all like it. Made by `read_staged`.
    """

    def __init__(self, path: Path, clusters: Clusters, steps: Sequence[Sequence[Choice]] = ()) -> None:
        self.clusters = clusters
        self._path = path
        self._steps = [list(step) for step in steps]

    @property
    def choices(self) -> dict[str, Choice]:
        """What holds for each cluster, by its name."""
        return {choice.cluster: choice for step in self._steps for choice in step}

    # Each change is written to the disk first. Where that fails (E906), nothing has changed.

    def stage(self, choices: Sequence[Choice]) -> None:
        """Add a step."""
        self._replace([*self._steps, list(choices)])

    def take_back(self) -> list[Choice]:
        """Take back the last step and return it; what held before holds again."""
        if not self._steps:
            return []
        last = self._steps[-1]
        self._replace(self._steps[:-1])
        return last

    def forget(self, written: Iterable[Choice]) -> None:
        """Forget choices that are written, and those that they had taken the place of; what was staged since stays."""
        known = self.choices
        gone = {choice.cluster for choice in written if known.get(choice.cluster) == choice}
        steps = [[choice for choice in step if choice.cluster not in gone] for step in self._steps]
        self._replace([step for step in steps if step])

    def summary(self) -> Summary:
        """Return what the choices come to."""
        counts: dict[What, int] = dict.fromkeys(WHATS, 0)
        num_gone = num_fixed = 0
        for choice in self.choices.values():
            counts[choice.what] += 1
            num_gone += len(choice.gone)
            cluster = self.clusters.by_name[choice.cluster]
            staying = {member.split for member in cluster.members if member.id not in choice.gone} - {None}
            num_fixed += cluster.is_leak and len(staying) < 2
        return Summary(counts, num_gone, num_fixed)

    def _replace(self, steps: list[list[Choice]]) -> None:
        if steps:
            # ASCII, so that any id can be written.
            document = {"v": _VERSION, "steps": [[astuple(choice) for choice in step] for step in steps]}
            write_atomic(self._path, [json.dumps(document).encode()], mode=0o600)
        else:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise CurateError("E906 write-failed", f"{self._path}: {error}") from error
        self._steps = steps


def read_staged(root: Path, by: str, clusters: Clusters) -> tuple[Staged, int]:
    """Return what ``by`` has staged in the workspace ``root``, and how many choices do not fit its clusters any more.

    A choice fits as long as the same key would mean the same. A damaged file is set aside beside itself.

    Raises:
        CurateError: E914 when the folder of drafts lies elsewhere; E906 when it cannot be made.
    """
    # In a folder of its own: beside it each file is the draft of a record, which may be called anything.
    path = inside(root, root / FOLDER / safe_name(by) / "dedupe" / "staged.json")
    make_cache(root / FOLDER.parent)
    try:
        document: Any = json.loads(read_file(path, root, most=MOST_DOCUMENT))
        if document["v"] != _VERSION:
            raise ValueError("written by another version")
        steps = [[_choice(row) for row in step] for step in document["steps"]]
    except FileNotFoundError:
        return Staged(path, clusters), 0
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        with suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return Staged(path, clusters), 0
    # Records may have changed since the choices were staged; what would now drop another record is not kept.
    fitting = [[choice for choice in step if _is_fitting(clusters, choice)] for step in steps]
    before, after = ({choice.cluster for step in some for choice in step} for some in (steps, fitting))
    return Staged(path, clusters, [step for step in fitting if step]), len(before - after)


def _choice(row: Any) -> Choice:
    cluster, what, keeper, other, gone = row
    if what not in WHATS or not all(isinstance(name, str) for name in (cluster, keeper, other, *gone)):
        raise ValueError("not a choice")
    return Choice(cluster, what, keeper, other, tuple(gone))


def _is_fitting(clusters: Clusters, choice: Choice) -> bool:
    cluster = clusters.by_name.get(choice.cluster)
    if cluster is None or cluster.is_left:
        return False
    with suppress(CurateError):
        return choose(cluster, choice.what, choice.keeper, choice.other) == choice
    return False


class ClusterReview:
    """One annotator's way through the open clusters of a workspace."""

    def __init__(self, clusters: Clusters, staged: Staged, frozen: frozenset[str] = frozenset()) -> None:
        """Begin at the first cluster; ``frozen`` is the golden test set."""
        self.clusters = clusters
        self.staged = staged
        self.frozen = frozen
        self.kind = "all"
        self.at = 0
        self._pair = 0
        self.open: Sequence[ReviewCluster] = clusters.open

    def resumed(self, before: ClusterReview | None) -> ClusterReview:
        """Return this review, standing where ``before`` stood, as far as that is still there."""
        if before is not None:
            self._choose_kind(before.kind)
            names = [cluster.name for cluster in self.open]
            name = before.cluster.name if before.cluster else ""
            self.at = names.index(name) if name in names else min(before.at, max(0, len(names) - 1))
        return self

    @property
    def cluster(self) -> ReviewCluster | None:
        """The cluster that is looked at, None where none is left."""
        return self.open[self.at] if self.at < len(self.open) else None

    @property
    def choice(self) -> Choice | None:
        """What is staged for it."""
        return self.staged.choices.get(self.cluster.name) if self.cluster else None

    @property
    def pair(self) -> tuple[ClusterMember, ClusterMember] | None:
        """The two records that are looked at, in the order of the cluster."""
        if self.cluster is None:
            return None
        return next(islice(combinations(self.cluster.members, 2), self._pair, None))

    def step(self, number: int) -> None:
        """Go so many clusters ahead, or back, and round at the ends."""
        self.at = (self.at + number) % max(1, len(self.open))
        self._pair = 0

    def step_pair(self, number: int) -> None:
        """Go so many pairs of the cluster ahead, or back."""
        if self.cluster is not None:
            count = len(self.cluster.members)
            self._pair = (self._pair + number) % (count * (count - 1) // 2)

    def next_kind(self) -> str:
        """Go through the next kind of clusters, and return its name."""
        names = list(KINDS)
        self._choose_kind(names[(names.index(self.kind) + 1) % len(names)])
        return self.kind

    def go_to(self, name: str, other: str = "") -> bool:
        """Look at the cluster of a record, with ``other`` beside it if given; say whether there is such an open one."""
        cluster = self.clusters.of_record(name)
        members = [member.id for member in cluster.members] if cluster else []
        if cluster is None or cluster.is_left or (other and other not in members):
            return False
        if cluster not in self.open:
            self._choose_kind("all")
        self.at = list(self.open).index(cluster)
        wanted = {name, other} - {""}
        self._pair = next(number for number, pair in enumerate(combinations(members, 2)) if wanted <= {*pair})
        return True

    def stage(self, what: What, *, is_left: bool) -> Choice | None:
        """Stage a choice in favour of the left record of the pair, or the right one, and go on to what is undecided."""
        if self.cluster is None or self.pair is None:
            return None
        keeper, other = self.pair if is_left else self.pair[::-1]
        choice = choose(self.cluster, what, keeper.id, other.id)
        self.staged.stage([choice])
        self._go_on()
        return choice

    def stage_alike(self) -> tuple[Choice | None, list[Choice]]:
        """Stage for all undecided clusters of the same shape what is staged here, or else was staged last.

        Return what was taken for a model, None where nothing is staged, and what it was staged for.
        """
        known = self.staged.choices
        model = self.choice or next(reversed(known.values()), None)
        if model is None:
            return None, []
        alike = [choice for choice in choose_alike(self.clusters, model) if choice.cluster not in known]
        if alike:
            self.staged.stage(alike)
            self._go_on()
        return model, alike

    def take_back(self) -> list[Choice]:
        """Take back what was staged last and look at it again."""
        step = self.staged.take_back()
        if step:
            self.go_to(step[0].keeper)
        return step

    def _go_on(self) -> None:
        # The next cluster for which nothing is staged; where there is none, the present one stays.
        known, count = self.staged.choices, len(self.open)
        ahead = [(self.at + step) % count for step in range(1, count)]
        self.at = next((index for index in ahead if self.open[index].name not in known), self.at)
        self._pair = 0

    def _choose_kind(self, kind: str) -> None:
        self.kind = kind
        self.open = [cluster for cluster in self.clusters.open if KINDS[kind](cluster)]
        self.at = self._pair = 0
