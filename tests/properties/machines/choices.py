"""The choices of a state machine, and how it judges an answer."""

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import precondition

from ftsim.testing.strategies import dns_labels
from tests.properties.machines.model import Refusal

Row = tuple[str, str]
Method = TypeVar("Method", bound=Callable[..., Any])


def refusal_of(call: Any, *args: Any, **options: Any) -> str | None:
    """None when the call succeeds, else what it said."""
    try:
        call(*args, **options)
    except Exception as error:
        return str(error) or repr(error)
    return None


def check(said: str | None, predicted: Refusal, what: str) -> bool:
    """Tell whether it succeeded; raises AssertionError when that, or the words of the refusal, are not as predicted."""
    if predicted is None:
        assert said is None, f"{what} must succeed, but: {said}"
        return True
    assert said is not None, f"{what} must be refused ({', '.join(predicted)}), but succeeded"
    missing = [words for words in predicted if words not in said]
    assert not missing, f"{what}: the refusal lacks {missing}: {said}"
    return False


def jobs_in(*states: str) -> st.SearchStrategy[str]:
    """A job of the running machine that is in one of these states."""
    return st.runner().flatmap(lambda machine: st.sampled_from(machine.jobs_in(*states)))


def rows() -> st.SearchStrategy[Row]:
    """Any row that there ever was, as job and name."""
    return st.runner().flatmap(lambda machine: st.sampled_from(machine.rows))


def promotable_rows() -> st.SearchStrategy[Row]:
    return st.runner().flatmap(lambda machine: st.sampled_from(machine.promotable_rows()))


def model_ids() -> st.SearchStrategy[str]:
    """Ids of output models, good and bad: letters that are not allowed, nothing at all, one character too many."""
    return st.one_of(dns_labels(8), st.text("ab09-_.A /\u00e9", max_size=4), st.integers(62, 65).map("a".__mul__))


def some(*states: str) -> Callable[[Method], Method]:
    """Only while a job is in one of these states."""
    return precondition(lambda machine: machine.jobs_in(*states))


def some_rows() -> Callable[[Method], Method]:
    return precondition(lambda machine: machine.rows)


def fitting() -> st.SearchStrategy[tuple[str, Row]]:
    """A running job and a training state that fits it."""
    return st.runner().flatmap(lambda machine: st.sampled_from(machine.fitting()))
