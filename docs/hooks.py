"""The pages of the site that docs/site does not hold. mkdocs calls `on_files`; a function makes the text of each."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emulator.core.endpoints import Callers
from emulator.http.tables import declared, fields
from emulator.quirks.failures import Entry, entries
from ftsim.inspect.messages import WHO, symptoms
from ftsim.scenarios import find

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PARTS = {
    "A": "Checkpoint rows",
    "B": "Saving",
    "C": "Resume and load",
    "D": "Promotion",
    "E": "Deployments and weight sync",
    "F": "Trainers",
    "G": "The serverless pool",
    "H": "Recipes and data",
}

_MESSAGES = """\
# Failures by message

`ftsim doctor "MESSAGE"` looks a message, a log or a traceback up in this table.
"""
_FINDINGS = """\
# What scripts found

Libraries, tools and formats of this field do what one would not guess. Each script installs public packages of a stated
version, shows the behaviour without ftsim, and fails once it has changed.
"""
_CONTROL = """\
# Control API

What a test or a tool may ask of the emulator beyond what the service has. It takes keys as the service does
(`Authorization: Bearer …`) and shows what the key's account may see; the key that `ftsim serve` prints opens all.
A field or a parameter that an endpoint does not know is a 400. The endpoints of the service are described by
`GET /_ftsim/openapi.json`.
"""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of docs/, the README, one page for each failure, and the generated references."""
    from mkdocs.structure.files import File

    for address, text in pages():
        files.append(File.generated(config, address, content=text))
    for picture in (DOCS / "img").iterdir():
        files.append(File.generated(config, f"img/{picture.name}", abs_src_path=str(picture)))
    return files


def pages() -> Iterator[tuple[str, str]]:
    """Every page that is not in docs/site: its address in the site, and its text."""
    for page in sorted(DOCS.glob("*.md")):
        yield page.name, page.read_text("utf-8")
    yield "index.md", first_page()
    yield "findings.md", findings()
    yield "reference/control.md", control()
    yield "failures/index.md", all_failures()
    yield "failures/messages.md", by_message()
    for entry in entries().values():
        yield f"failures/{entry.id}.md", failure(entry)


def first_page() -> str:
    """The README with its links turned to where its pages are in the site."""
    text = (ROOT / "README.md").read_text("utf-8").replace("](docs/", "](")
    return re.sub(r"\[([^\]\n]+)\]\((?:\.github/|findings/?|LICENSE|CHANGELOG\.md)[\w./-]*\)", r"\1", text)


def failure(entry: Entry) -> str:
    """One failure: symptom, messages, cause, cure, how to reproduce it."""
    lines = [f"# {entry.id}: {entry.title}", "", "## Symptom", "", entry.sees or "Nothing is seen.", ""]
    said = [
        (symptom.who, pattern) for symptom in symptoms() if entry.id in symptom.entries for pattern in symptom.patterns
    ]
    if said:
        lines += ["## Messages", "", "`…` stands for ids, names and numbers.", ""]
        lines += [f"- {WHO[who]}: {_code(pattern.removeprefix('^'))}" for who, pattern in dict.fromkeys(said)]
        lines.append("")
    if entry.cause:
        lines += ["## Cause", "", entry.cause, ""]
    if entry.switch:
        lines += ["## Switch", "", f"{entry.switch} ([all switches](../quirks.md))", ""]
    if entry.cure:
        lines += ["## Cure", "", entry.cure, ""]
    lines += ["## Reproduce it", ""]
    if find(entry.id):
        lines += ["```bash", f"ftsim reproduce {entry.id}", "```", ""]
    else:
        lines += ["No scenario reproduces it yet, or no server can cause it.", ""]
    lines.append("Evidence and sources stand in [the catalogue](../failures.md).")
    return "\n".join(lines) + "\n"


def all_failures() -> str:
    """Every failure with its title, by subject."""
    lines = ["# Every failure", ""]
    for letter, subject in PARTS.items():
        lines += [f"## {letter}. {subject}", "", "| failure | what goes wrong | reproduced |", "|---|---|---|"]
        for entry in entries().values():
            if entry.id.startswith(letter):
                shown = f"`ftsim reproduce {entry.id}`" if find(entry.id) else ""
                lines.append(f"| [{entry.id}]({entry.id}.md) | {_cell(entry.title)} | {shown} |")
        lines.append("")
    return "\n".join(lines)


def by_message() -> str:
    """Every known message in the order of the alphabet, with the failures whose symptom it is."""
    said = {
        (pattern.removeprefix("^"), symptom.who, symptom.entries)
        for symptom in symptoms()
        for pattern in symptom.patterns
    }
    rows = sorted(said, key=lambda row: row[0].lower())
    lines = [_MESSAGES, "| message | said by | failure |", "|---|---|---|"]
    for pattern, who, identifiers in rows:
        links = ", ".join(f"[{one}]({one}.md)" for one in identifiers)
        lines.append(f"| {_cell(_code(pattern))} | {WHO[who]} | {links} |")
    return "\n".join(lines) + "\n"


def findings() -> str:
    """What scripts in findings/ showed of other tools: the header of each."""
    lines = [_FINDINGS]
    for script in sorted((ROOT / "findings").glob("*.sh")):
        header = []
        for line in script.read_text("utf-8").splitlines()[1:]:
            if not line.startswith("#"):
                break
            header.append(line.removeprefix("#").removeprefix(" "))
        lines += [
            f"## {script.stem.replace('-', ' ')}",
            "",
            "```text",
            *header,
            "```",
            "",
            f"Run `findings/{script.name}`.",
            "",
        ]
    return "\n".join(lines)


def control() -> str:
    """The control API under /_ftsim, from the rows of its endpoints and what their handlers say."""
    lines = [_CONTROL, "| method | path | what it does | parameters and fields |", "|---|---|---|---|"]
    for one in declared():
        if one.row.callers is Callers.CONTROL:
            about = one.doc.strip().partition("\n\n")[0]
            taken = ", ".join(f"`{name}`" for name in dict.fromkeys(name for name, _, _ in fields(one)))
            lines.append(f"| {one.row.method} | `{one.row.path}` | {_cell(' '.join(about.split()))} | {taken} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
