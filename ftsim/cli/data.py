"""`ftsim data`."""

import contextlib
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftsim.cli.console import AsJson, StateDir, fail
from ftsim.cli.train import BASE_MODEL, DATA_SETS, data_file

if TYPE_CHECKING:
    from ftsim.training.data.check import Report

app = typer.Typer(no_args_is_help=True, help="Judge data sets before anything is trained on them.")


@app.callback()
def _data() -> None:
    """Judge data sets before anything is trained on them."""


@app.command("check")
def check(
    dataset: Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder, or an fsspec address.")],
    recipe: Annotated[str, typer.Option("--recipe", help=f"One of {', '.join(DATA_SETS)}.")] = "sft",
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", help="Name or folder; qwen3-8b's by default.", show_default=False),
    ] = None,
    max_seq_len: Annotated[int, typer.Option("--max-seq-len", min=1, help="Longest row in tokens.")] = 4096,
    max_completion_tokens: Annotated[
        int, typer.Option("--max-completion-tokens", min=1, help="Room for an answer, of recipes that sample.")
    ] = 64,
    ground_truth_key: Annotated[
        str | None, typer.Option("--ground-truth-key", help="Where rl rows have their truth.", show_default=False)
    ] = None,
    train_on_what: Annotated[
        str, typer.Option("--train-on-what", help="What of a conversation sft trains.")
    ] = "all_assistant_messages",
    show: Annotated[int, typer.Option("--show", min=0, help="Print so many rows as they will be sent.")] = 0,
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Tell every bad row of a data set in one pass, and what is trained of the others.

    Exits with 0 when all rows are good, 1 when one is bad, 2 when the file cannot be read.
    """
    from ftsim.compute.models import catalogue, hub
    from ftsim.process.attendance import default_state_dir
    from ftsim.process.environment import in_environment

    recipe = recipe.removesuffix("_loop")
    if recipe not in DATA_SETS:
        fail(f"there is no recipe {recipe!r}; there are {', '.join(DATA_SETS)}", 2)
    with contextlib.ExitStack() as stack:
        # Before anything imports the hub library, which reads them once.
        root = (state_dir or default_state_dir()).expanduser().resolve()
        stack.enter_context(in_environment(hub.build(root / "hub")))
        from ftsim.training.data import check as checks
        from ftsim.training.data.forms import TRAIN_ON_WHAT
        from ftsim.training.data.supervised import load_tokenizer

        if train_on_what not in TRAIN_ON_WHAT:
            fail(f"--train-on-what {train_on_what!r} is not one of {', '.join(TRAIN_ON_WHAT)}", 2)
        try:
            loaded = load_tokenizer(tokenizer or catalogue.facts(BASE_MODEL).tokenizer_id)
            report = checks.check(
                data_file(dataset),
                recipe,
                loaded,
                max_seq_len,
                max_completion_tokens=max_completion_tokens,
                ground_truth_key=ground_truth_key,
                train_on_what=train_on_what,
                show=show,
            )
        except ValueError as error:
            fail(str(error), 2)
    if as_json:
        print(json.dumps(as_object(report), indent=1))
    else:
        tell(report, loaded)
    raise typer.Exit(1 if report.bad else 0)


def as_object(report: "Report") -> dict[str, Any]:
    """The report as JSON has it."""
    bad = []
    for one in report.bad:
        file, _, number = one.where.rpartition(", ")
        line = int(number.rpartition(" ")[2])
        bad.append({"file": file, "line": line, "reason": one.reason, "kind": one.kind})
    return {
        "rows": report.rows,
        "bad": bad,
        "kinds": dict(report.kinds),
        "tokens": report.tokens,
        "trained": report.trained,
        "cut": report.cut,
        "dropped": report.dropped,
        "lengths": {str(below): report.lengths[below] for below in sorted(report.lengths)},
        "notes": report.notes.lines(),
    }


def tell(report: "Report", tokenizer: Any) -> None:
    """Print the report: bad rows by kind, counts, a histogram of lengths, and the rows that are to be shown."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for kind, count in sorted(report.kinds.items()):
        console.print(f"{kind}: {count} bad", style="bold", markup=False)
        for one in report.bad:
            if one.kind == kind:
                console.print(f"  {one.where}: {one.reason}", markup=False)
    for line in report.notes.lines():
        console.print(line, markup=False)
    most = max(report.lengths.values(), default=1)
    for below in sorted(report.lengths):
        count = report.lengths[below]
        console.print(f"{count:8} below {below:6} tokens {'#' * -(-40 * count // most)}", markup=False)
    for example in report.shown:
        text = Text()
        for token, weight in zip(example.tokens, example.weights, strict=True):
            text.append(tokenizer.decode([token]), style="black on green" if weight else "dim")
        console.print(text)
    console.print(
        f"{report.rows} rows, {len(report.bad)} bad, {report.dropped} dropped, {report.cut} cut; "
        f"{report.trained} of {report.tokens} tokens are trained",
        markup=False,
    )
