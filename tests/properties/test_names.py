"""Names, ids and references: what passes is safe, what the client accepts is accepted, nothing else is raised."""

import tempfile
from pathlib import Path

import pytest
from fireworks.training.sdk.client import make_cross_job_checkpoint_ref, qualify_snapshot_name
from fireworks.training.sdk.fireworks_client import validate_output_model_id
from hypothesis import example, given, strategies as st

from emulator.core import names
from emulator.core.errors import InvalidArgument
from emulator.core.ids import Ids
from emulator.state.blobs import Blobs
from ftsim.testing.strategies import checkpoint_names, dns_labels

near_names = st.text("abz019-_./:A \n\x00é", max_size=70) | st.text(max_size=70) | checkpoint_names()
ROOT = Path(tempfile.gettempdir()).resolve() / "nowhere"


def accepted(check: object, *args: object, **options: object) -> bool:
    try:
        check(*args, **options)  # type: ignore[operator]
    except InvalidArgument:
        return False
    return True


@given(near_names, st.booleans())
@example("a..b", False)
@example(".", False)
@example("a\n", True)
def test_a_checkpoint_name_that_passes_is_one_folder_below_the_root(name: str, strict: bool) -> None:
    if accepted(names.check_checkpoint_name, name, strict=strict):
        path = Blobs.path(_blobs(), f"acct/job/{name}")
        assert path.resolve().parent == ROOT / "acct" / "job"
        assert path.name == name


def _blobs() -> Blobs:
    blobs = Blobs.__new__(Blobs)  # no folder is touched
    blobs.root = ROOT
    return blobs


@given(checkpoint_names())
def test_names_of_the_strategy_save_load_and_route(name: str) -> None:
    qualified = qualify_snapshot_name("0123abcd", name)
    assert accepted(names.check_checkpoint_name, name, strict=True)
    assert names.is_loadable(qualified)
    assert names.parse_reference(qualified) == names.Reference(qualified)


@given(near_names | dns_labels())
def test_what_the_client_would_load_is_loadable_and_nothing_else(name: str) -> None:
    try:
        reference = make_cross_job_checkpoint_ref(source_job_id="job", checkpoint_name=name)
    except (ValueError, TypeError):
        assert not names.is_loadable(name) or name.strip() != name
        return
    parsed = names.parse_reference(reference)
    assert (parsed.job, parsed.run) == ("job", None)
    assert names.is_loadable(parsed.checkpoint)


@given(dns_labels(), checkpoint_names())
def test_a_cross_job_reference_comes_apart_as_it_was_put_together(job: str, name: str) -> None:
    assert names.parse_reference(f"cross_job://{job}/{name}") == names.Reference(name, job=job)


@given(
    near_names
    | st.builds("cross_job://{}/{}".format, near_names, near_names)
    | st.builds("{}/run-{}/{}".format, near_names, st.just("0" * 32), near_names)
)
def test_any_reference_is_understood_or_refused_by_name(path: str) -> None:
    try:
        reference = names.parse_reference(path)
    except InvalidArgument:
        return
    assert accepted(names.check_checkpoint_name, reference.checkpoint)


@given(near_names | dns_labels())
def test_model_ids_are_judged_as_the_client_judges_them(identifier: str) -> None:
    if not identifier.endswith("\n"):  # the client's pattern lets one through, which no URL can carry
        assert accepted(names.check_model_id, identifier) == (validate_output_model_id(identifier) == [])
    assert accepted(names.check_model_id, identifier, "dns_label") == names.is_loadable(identifier)


@given(dns_labels(), st.sampled_from(["models", "rlorTrainerJobs", "deployments"]), dns_labels())
def test_a_resource_name_comes_apart_as_it_was_put_together(account: str, collection: str, identifier: str) -> None:
    full = names.resource(account, collection, identifier)
    assert names.split_resource(full, collection) == (account, identifier)
    for wrong in (f"{full}/", f"/{full}", identifier, f"{full}/{full}", full.replace(collection, "things", 1)):
        with pytest.raises(InvalidArgument):
            names.split_resource(wrong, collection)


@given(st.text(max_size=40) | st.builds("accounts/{}/models/{}".format, st.text(max_size=5), st.text(max_size=5)))
def test_any_text_is_a_resource_name_or_refused_by_name(text: str) -> None:
    if accepted(names.split_resource, text, "models"):
        account, identifier = names.split_resource(text, "models")
        assert names.resource(account, "models", identifier) == text


@given(st.integers(0, 2**32), st.integers(0, 5), st.integers(1, 40))
def test_ids_follow_from_seed_and_boot_alone(seed: int, boot: int, length: int) -> None:
    def draw(ids: Ids) -> list[object]:
        return [value for _ in range(3) for value in (ids.hex(length), ids.base36(length), ids.uniform())]

    first = draw(Ids(seed, boot))
    assert first == draw(Ids(seed, boot))
    assert all(len(value) == length for value in first if isinstance(value, str))
    assert all(0 <= value < 1 for value in first if isinstance(value, float))
    assert names.is_loadable(Ids(seed, boot).base36(16))
    if length >= 16:
        assert first != draw(Ids(seed, boot + 1))
