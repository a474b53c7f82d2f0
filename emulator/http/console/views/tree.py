"""Draws the checkpoints of a run as a tree: a lane per session, an edge per resume, and what a crash cut off."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from emulator.core.kinds import CAPABILITIES
from emulator.state.curves import Segment
from emulator.state.entities import Checkpoint

LANES, NODES = 24, 160
"""Sessions and saves that are drawn: the newest."""
LANE, LEFT, WIDTH, TOP, BESIDE = 30, 104, 740, 12, 14


@dataclass(frozen=True)
class Node:
    """A save: where it stands, what it is good for."""

    id: str
    step: int
    kind: str
    good_for: str
    x: float
    y: float


@dataclass
class Lane:
    """A session: the steps it took, from which row it went on, and what of it nobody went on from."""

    number: int
    model_id: str
    origin: str
    first: int
    last: int
    y: float = 0.0
    x1: float = 0.0
    x2: float = 0.0
    edge: str = ""
    nodes: list[Node] = field(default_factory=list)
    kept: float = 0.0
    lost: str = ""

    @property
    def label(self) -> str:
        return f"session {self.number}"


@dataclass(frozen=True)
class Tree:
    """The drawing; `left_out` says what is not in it, `told` says in words what it shows."""

    lanes: list[Lane]
    height: float
    ticks: list[tuple[float, int]]
    told: list[str]
    left_out: str = ""


def tree(found: Sequence[Segment], rows: Sequence[Checkpoint]) -> Tree:
    """`found` are all sessions that took a step, `rows` the rows to draw, both oldest first."""
    lanes = [
        Lane(number, one.model_id, one.origin, min(one.steps), max(one.steps))
        for number, one in enumerate(found, 1)
        if one.steps
    ]
    begun = {lane.number: found[lane.number - 1].created for lane in lanes}
    drawn = rows[-NODES:]
    placed: dict[str, tuple[Lane, int]] = {}
    for row in drawn:
        mine = [lane for lane in lanes if lane.model_id == row.model_id and begun[lane.number] < row.created]
        if not mine:
            lanes.append(Lane(len(lanes) + 1, row.model_id, "", row.step, row.step))
            begun[len(lanes)] = 0
            mine = lanes[-1:]
        placed[row.name] = (mine[-1], row.step)
        mine[-1].first, mine[-1].last = min(mine[-1].first, row.step), max(mine[-1].last, row.step)
    hidden = max(0, len(lanes) - LANES)
    lanes = lanes[hidden:]
    return _drawn(lanes, drawn, placed, _left_out(hidden, len(rows) - len(drawn)))


def _drawn(lanes: list[Lane], rows: Sequence[Checkpoint], placed: dict[str, tuple[Lane, int]], left_out: str) -> Tree:
    low = min((lane.first for lane in lanes), default=0)
    origins = [placed[lane.origin][1] for lane in lanes if lane.origin in placed]
    low, high = min([low, *origins]), max([low + 1, *(lane.last for lane in lanes)])
    told: list[str] = []

    def at(step: int) -> float:
        return round(LEFT + WIDTH * (step - low) / (high - low), 1)

    for index, lane in enumerate(lanes):
        lane.y = TOP + LANE * index + LANE / 2
        lane.x1, lane.x2 = at(lane.first), at(lane.last)
        lane.kept = lane.x2
    for lane in lanes:
        if lane.origin in placed:
            parent, step = placed[lane.origin]
            lane.edge = f"M{at(step)},{parent.y} C{at(step)},{lane.y} {at(step)},{lane.y} {lane.x1},{lane.y}"
            if step < parent.last and parent in lanes:
                parent.kept = min(parent.kept, at(step))
                parent.lost = f"steps {step + 1} to {parent.last}"
                told.append(f"{lane.label} went on from step {step} of {parent.label}: its {parent.lost} were cut off")
            else:
                told.append(f"{lane.label} went on from {parent.label} at step {step}")
    for row in rows:
        lane, step = placed[row.name]
        if lane.y:
            can = CAPABILITIES[row.kind]
            good = "resumable" if can.resumable else "promotable" if can.promotable else "neither"
            short = row.kind.value.removeprefix("CHECKPOINT_TYPE_")
            beside = sum(node.step == step for node in lane.nodes)  # a step that was saved in two forms
            lane.nodes.append(Node(row.id, step, short, good, at(step) + BESIDE * beside, lane.y))
    ticks = [(at(step), step) for step in sorted({low, (low + high) // 2, high})]
    return Tree(lanes, TOP + LANE * len(lanes) + 22, ticks, told, left_out)


def _left_out(lanes: int, rows: int) -> str:
    parts = [f"{lanes} earlier sessions" if lanes else "", f"{rows} earlier rows" if rows > 0 else ""]
    return " and ".join(part for part in parts if part)
