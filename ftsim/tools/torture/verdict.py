"""Compares a disturbed run with an undisturbed one."""

from ftsim.tools.torture.evidence import Evidence, History


def compare(quiet: Evidence, rough: Evidence) -> list[str]:
    """The faults of the disturbed run, a sentence each; none when it ended like the undisturbed one."""
    problems = []
    missing, doubled = quiet.rows - rough.rows, rough.rows - quiet.rows
    if len(rough.final) < len(quiet.final):
        problems.append(
            f"lost {len(quiet.final) - len(rough.final)} optimizer steps: {len(rough.final)} are in the last state, "
            f"{len(quiet.final)} without disturbance"
        )
    if missing:
        problems.append(f"left out {sum(missing.values())} rows of {sum(quiet.rows.values())}")
    if doubled:
        problems.append(f"trained {sum(doubled.values())} rows more often than without disturbance")
    if not missing and not doubled and rough.final != quiet.final:
        problems.append(f"trained the same rows in other steps, from step {_first(quiet.final, rough.final)} on")
    dropped = [one for one in rough.resumed if not one.optimizer]
    if len(dropped) > sum(not one.optimizer for one in quiet.resumed):
        problems.append(
            f"resumed without the optimizer's state: it loaded {dropped[0].path} with weights only, so the steps after "
            "it are not those of an undisturbed run"
        )
    problems += _promotions(quiet, rough)
    problems += _leaks("trainer", quiet.trainers, rough.trainers)
    problems += _leaks("deployment", quiet.deployments, rough.deployments)
    return problems


def _promotions(quiet: Evidence, rough: Evidence) -> list[str]:
    problems = []
    for name, history in quiet.promoted.items():
        if name not in rough.promoted:
            problems.append(f"never promoted {name}")
        elif rough.promoted[name] != history:
            problems.append(
                f"promoted the wrong checkpoint as {name}: one of {len(rough.promoted[name])} steps, not the one of "
                f"{len(history)} steps"
                + ("" if len(rough.promoted[name]) != len(history) else " on the same rows in the same order")
            )
        elif rough.resumed and rough.weights.get(name) != quiet.weights.get(name):
            problems.append(
                f"promoted other weights as {name} than without disturbance, though they were trained on the same rows "
                "in the same order: what was resumed was not all of the state that was saved, or the program draws by "
                "chance without a seed"
            )
    return problems + [
        f"promoted {name}, which is not promoted without disturbance"
        for name in rough.promoted.keys() - quiet.promoted.keys()
    ]


def _leaks(what: str, quiet: list[str], rough: list[str]) -> list[str]:
    """More of them left running than without disturbance."""
    if len(rough) <= len(quiet):
        return []
    more = len(rough) - len(quiet)
    return [f"leaked {more} {what}{'s' if more > 1 else ''}, left running: {', '.join(rough)}"]


def _first(one: History, other: History) -> int:
    return 1 + next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )
