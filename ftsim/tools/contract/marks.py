"""Says of everything that docs/wire.md only infers which check would settle it, or why no key could.

`docs/unverified.md` is generated from this: `python -m ftsim.tools.contract.marks [FILE]`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ftsim.tools.contract.run import CHECKS, COSTS, OPTIONS, Check

PAST = "the service of an earlier date cannot be asked any more"
OURS = "it is the emulator's own doing, no fact of the service"
CLIENT = "the client decides it, whose code was read"
FULL = "it takes a full-parameter job, which fills several nodes"


class Mark(NamedTuple):
    """A fact that is inferred: words by which its line in docs/wire.md is found, and the checks that settle it.

    `why` says why there is no check, or what is left open by those that there are.
    """

    words: str
    checks: tuple[str, ...] = ()
    why: str = ""


MARKS = (
    Mark("The server should accept the key from either header", ("bearer alone",)),
    Mark("With images, tensors have a number", (), "no check sends an image, and both forms are taken"),
    Mark("Emit gRPC-gateway style", ("unknown key", "unknown job")),
    Mark("| `restoreReference` of a row |", ("restore reference",), PAST),
    Mark("| creating managed jobs |", ("retired creates",), PAST),
    Mark("| longest name of a save on the pool |", ("names on the pool",), PAST),
    Mark("| idle stop of a trainer |", (), PAST),
    Mark("| catalogue | `since` of a row |", (), PAST),
    Mark("may have 54 characters by the same sum", ("names of saves",)),
    Mark("Inferred, each with its switch", ("retired creates",)),
    Mark(
        "what a row of the ledger holds",
        ("ledger",),
        "no client can put a snapshot with another configuration where the service looks for it",
    ),
    Mark("that rows of an ended session are NOT_FOUND at once", ("rows of an ended session",)),
    Mark("an unlisted model is a mixture of experts come from its family", (), OURS),
    Mark("DELETE of a model that a deployment serves", ("model in use",)),
    Mark("here a trainer of more than 8 stands on nodes of 8", ("eight to a node",)),
    Mark("Server-side checks worth emulating", ("refused jobs",)),
    Mark("| `restoreReference` | `cross_job://", ("restore reference",)),
    Mark(
        "that a told key goes before a measured one",
        (),
        "an answer does not say who told a number, and limits are ours",
    ),
    Mark("only affects MoE expert projections of exports", (), FULL),
    Mark("Empty list (not 404) for a job with no checkpoints", ("no rows yet", "unknown jobs checkpoints")),
    Mark("Messages seen for rejects", ("promote refused", "both spellings")),
    Mark("`referenceState` is unspecified here", ("state of a session",)),
    Mark(
        "A session is what `x-multi-turn-session-id` names",
        (),
        "an answer does not say which replica gave it, so that no client can tell whom a field has led where",
    ),
    Mark("(status and text not known", ("retired creates",)),
    Mark("| HTTP/2 |", (), OURS),
    Mark("409 is *retried* on this surface", (), CLIENT),
    Mark("Dedup on `(session_id, model_seq_id)`", ("created once",)),
    Mark("Simplest: return only `model_id`", (), OURS),
    Mark("fetching must be idempotent", ("result again",)),
    Mark("Recommended hold", ("polls in time",)),
    Mark("FILE `weight_sync` uses exactly one seq", (), "a call would have to be sent that may wait for ever"),
    Mark("Duplicate `(model_id, seq_id)`", ("resend",)),
    Mark("Execution is strictly serial per model", ("forward changes nothing",)),
    Mark("| reinforce |", ("open model",), "the loss can be asked for only where create_model advertises it"),
    Mark("In `forward` the loss name is irrelevant", ("forward changes nothing",)),
    Mark("Absent `weights`", ("weights are ones",)),
    Mark("Values in `loss_fn_config`", ("unknown loss setting",)),
    Mark("forward_backward(cross_entropy): logprobs optional", ("step",)),
    Mark("**Router replay** (mixture of experts)", ("routes of a token",), "with --base-model, a mixture of experts"),
    Mark("optim_step without accumulated gradients", ("idle step",)),
    Mark("unload_model: future", ("untouched adapter",)),
    Mark("| sampling, whose |", ("sampled elsewhere",)),
    Mark("| base model | the first model binds", ("adapters only",)),
    Mark("| LoRA only |", ("adapters only",)),
    Mark("| idle | a session that gives no sign of life", (), "somebody would have to wait half an hour"),
    Mark("| unload |", ("a full pool",)),
    Mark("| finish |", ("rows of an ended session",), "somebody would have to wait thirty days"),
    Mark("As the emulator streams it", ("stream names snapshot",), "how a stream is cut is the server's own choice"),
    Mark("| row `sampling_logprob` |", ("certain token",)),
    Mark("Stop strings", (), "it takes an end of text, which only chance samples"),
    Mark("Settings of sampling act, in this order", ("what penalties count",)),
    Mark("| `max_tokens`, `temperature` |", (), "no check sends a prompt beyond a context, which would be paid for"),
    Mark("An object has the properties that its schema names", (), "what a small model is allowed is the emulator's"),
    Mark("Chat completions: no training-SDK code", (), OURS),
    Mark(
        "Embeddings: the vector of an input",
        (),
        "an embedding model whose weights are public would have to be served there, and its vectors compared",
    ),
    Mark("A thought is an item of type `reasoning`", (), OURS),
    Mark("`model` may be `accounts/a/deployments/d`", ("model not served",)),
    Mark("After hot load of snapshot X into deployment D", ("stream names snapshot",)),
    Mark("Deployment not READY or unknown", ("model nobody serves",)),
    Mark("Server validations to emulate", ("unknown snapshot",), FULL),
    Mark(
        "status [inferred]. An identity has no slash",
        (),
        "no client can put a snapshot with another configuration there",
    ),
    Mark("`POST …/hot_load/hint` takes any object", ("words of reset",)),
    Mark("Unknown identity: POST accepted", ("unknown snapshot",)),
    Mark("A failed hot load raises", (), CLIENT),
    Mark("Suggested emulator machine", ("cancelled and resumed", "delete")),
    Mark("scaled to zero: stays READY", ("scaled to zero",)),
    Mark("A replica that starts later", (), "it takes a snapshot on a deployment that is scaled up behind it"),
    Mark("Names are DNS-label checked", ("names of saves",)),
    Mark("Re-saving an existing name", ("saved again", "names of saves")),
    Mark("Loading a sampler (inference) checkpoint as state", ("sampler is no state",)),
    Mark("Resume picks the newest resumable row", (), "two rows of one microsecond cannot be made on purpose"),
    Mark("Delta base = previously *loaded* snapshot", (), FULL),
    Mark("An emulator that shares a disk", (), OURS),
    Mark("LoRA snapshots: standard PEFT dir", ("files of the model",)),
    Mark("Model then visible through", ("promote",)),
)
SWITCHES = {
    "rows.restore_reference": ("restore reference",),
    "sampler.on_duplicate": ("names of saves",),
    "sampler.names_max_len": ("names of saves",),
    "sessions.unload_frees_place": ("a full pool",),
    "sessions.rows_outlive": ("rows of an ended session",),
    "promote.zero_delta": ("untouched adapter",),
    "hotload.ledger_value": ("ledger",),
    "hotload.checked_in": (),
    "deployments.state_during_roll": (),
    "jobs.delete_s": ("delete",),
    "jobs.create_visible_after_s": ("create",),
    "datasets.writes": ("retired creates",),
    "datasets.writes_text": ("retired creates",),
    "managed.creates": ("retired creates",),
    "managed.creates_text": ("retired creates",),
}
"""The switches whose default is inferred, and the checks that show which value is the service's."""
_WHY = {
    "hotload.checked_in": "no client can put a snapshot with another configuration where the service looks for it",
    "deployments.state_during_roll": "a second trainer job would have to be attached, beside the first",
}
_HEAD = """\
# What nobody has verified

This page is generated from `ftsim/tools/contract/marks.py` by `python -m ftsim.tools.contract.marks`; change the
table, then generate it again.

Nothing of [wire.md](wire.md) was ever compared with the live service. Most of it was read in the vendor's code and
texts, or seen in what the vendor's clients send. The rest is inferred. Whoever has a key can settle it with
`ftsim contract` ([cli.md](cli.md#ftsim-contract)); each check is named here with what it costs there. Its report also
keeps the texts that nobody knows, such as that of a refusal.

| part | option | what it costs on a real service |
|---|---|---|
"""
_FACTS = """
## Facts that are inferred

| section | fact | settled by | part | if not, why |
|---|---|---|---|---|
"""
_SWITCHES = """
## Switches whose default is inferred

| switch | settled by | part | if not, why |
|---|---|---|---|
"""
LONGEST = 110


def page(wire: str) -> str:
    """The page as text, from that of docs/wire.md; raises LookupError for words that stand nowhere."""
    costs = [(part, f"`{OPTIONS[part]}`" if part in OPTIONS else "none", cost) for part, cost in COSTS.items()]
    facts, checks = [], {check.name: check for check in CHECKS}
    for section, line in inferred(wire):
        mark = mark_of(line)
        facts.append((section, _fact(line, mark.words), *_settled([checks[name] for name in mark.checks]), mark.why))
    switches = [
        (f"`{name}`", *_settled([checks[one] for one in names]), _WHY.get(name, ""))
        for name, names in sorted(SWITCHES.items())
    ]
    return "".join((_HEAD, _rows(costs), _FACTS, _rows(facts), _SWITCHES, _rows(switches)))


def inferred(wire: str) -> Iterator[tuple[str, str]]:
    """The lines of docs/wire.md that say of something that it is inferred, each with the number of its section."""
    section, legend = "", True
    for line in wire.splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ").split(" ")[0].rstrip(".")
            legend = legend and not section[:1].isdigit()
        elif not legend and "nferred" in line:
            yield section, line


def mark_of(line: str) -> Mark:
    """The mark of a line; raises LookupError when none or several fit."""
    found = [mark for mark in MARKS if mark.words in line]
    if len(found) != 1:
        raise LookupError(f"{len(found)} marks fit the line {line[:120]!r}: give it one in MARKS")
    return found[0]


def _fact(line: str, words: str) -> str:
    """Return the fact of a mark: its words and what follows, without the table around it."""
    text = line[line.index(words) :].strip("| ").replace("|", "–")
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} …"


def _settled(checks: list[Check]) -> tuple[str, str]:
    return ", ".join(f"`{check.name}`" for check in checks), ", ".join(dict.fromkeys(check.part for check in checks))


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cell or '–' for cell in row)} |\n" for row in rows)


if __name__ == "__main__":
    folder = Path(__file__).parents[3] / "docs"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "unverified.md"
    target.write_text(page((folder / "wire.md").read_text("utf-8")), "utf-8")
