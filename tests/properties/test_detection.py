"""Detection never misjudges a blob and never raises, whatever happened to its files."""

import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from safetensors import SafetensorError, safe_open

from emulator.core.kinds import CheckpointKind, detect, read_shard
from tests.properties import blobs
from tests.properties.blobs import Blob


def kind_of(files: Mapping[str, bytes]) -> CheckpointKind | None:
    place = Path(tempfile.mkdtemp())
    try:
        return detect(blobs.write(files, place / "blob"))
    finally:
        shutil.rmtree(place)


@given(blobs.blobs)
def test_a_whole_blob_is_what_it_is(blob: Blob) -> None:
    assert kind_of(blob.files) is blob.kind


@given(blobs.blobs, st.data())
def test_a_blob_that_lacks_a_file_is_nothing(blob: Blob, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(blob.needed)))
    assert kind_of({name: content for name, content in blob.files.items() if name != gone}) is None


@given(blobs.blobs, st.data())
def test_a_blob_with_a_file_cut_short_is_nothing(blob: Blob, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(blob.needed)))
    kept = data.draw(st.integers(0, len(blob.files[name]) - 1))
    assert kind_of({**blob.files, name: blob.files[name][:kept]}) is None


@given(blobs.blobs, st.data())
def test_a_blob_with_a_shard_that_is_too_long_is_nothing(blob: Blob, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([n for n in sorted(blob.needed) if n.endswith((".safetensors", ".distcp"))]))
    tail = data.draw(st.binary(min_size=1, max_size=9))
    assert kind_of({**blob.files, name: blob.files[name] + tail}) is None


@given(blobs.blobs, st.data())
def test_a_blob_with_a_file_under_another_name_is_nothing(blob: Blob, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(blob.needed)))
    other = data.draw(st.sampled_from([known for known in blobs.KNOWN if known not in blob.files]))
    moved = {(other if key == name else key): content for key, content in blob.files.items()}
    assert kind_of(moved) is None


@given(blobs.blobs, st.data())
def test_a_byte_that_changed_never_makes_another_kind(blob: Blob, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(blob.needed)))
    content = bytearray(blob.files[name])
    at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(len(content), 300) - 1))
    content[at] = data.draw(st.integers(0, 255))
    assert kind_of({**blob.files, name: bytes(content)}) in (blob.kind, None)


@given(blobs.blobs, blobs.blobs)
def test_two_kinds_in_one_folder_are_none(one: Blob, other: Blob) -> None:
    if one.kind is other.kind or one.files.keys() & other.files.keys() & (one.needed | other.needed) - {"config.json"}:
        return
    assert kind_of({**one.files, **other.files}) is None


@pytest.mark.parametrize(
    ("one", "other"),
    list(itertools.combinations((blobs.full(), blobs.delta(), blobs.adapter(), blobs.training()), 2)),
    ids=["-".join(pair) for pair in itertools.combinations(("full", "delta", "adapter", "training"), 2)],
)
@given(st.data())
def test_parts_of_two_kinds_are_never_a_third(one: object, other: object, data: st.DataObject) -> None:
    first, second = data.draw(one), data.draw(other)  # type: ignore[arg-type]
    names = sorted({*first.files, *second.files})
    chosen = {
        name: data.draw(st.sampled_from([b.files[name] for b in (first, second) if name in b.files])) for name in names
    }
    kept = data.draw(st.sets(st.sampled_from(names)))
    assert kind_of({name: chosen[name] for name in kept}) in (first.kind, second.kind, None)


@given(blobs.folders())
def test_any_folder_has_a_kind_or_none(files: dict[str, bytes]) -> None:
    assert kind_of(files) in (None, *CheckpointKind)


@given(st.one_of(blobs.headers(), blobs.full().map(lambda blob: next(iter(blob.files.values())))), st.data())
def test_a_shard_that_is_read_is_one_that_safetensors_reads(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=2)):
        damaged[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.safetensors"
        path.write_bytes(damaged)
        try:
            ours = read_shard(path)
        except (ValueError, OSError):
            return
        try:
            with safe_open(path, framework="numpy") as theirs:
                assert set(theirs.keys()) == set(ours.tensors)
        except SafetensorError as error:
            pytest.fail(f"read as a shard with {sorted(ours.tensors)}, but safetensors says: {error}")


@pytest.mark.parametrize("name", ["config.json", "training_state.json", "model.safetensors", ".metadata"])
def test_a_folder_in_place_of_a_file_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert detect(tmp_path) is None


def test_no_folder_at_all_is_no_checkpoint(tmp_path: Path) -> None:
    assert detect(tmp_path / "nowhere") is None


HARMED = {
    "a checksum's key": (blobs.delta_files(), b'"model.embed.weight":"', b'"nodel.embed.weight":"', None),
    "a delta's dtype": (blobs.delta_files(), b'"dtype":"U8"', b'"dtype":"I8"', None),
    "a frame's magic": (blobs.delta_files(), b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe", None),
    "half of an adapter's pair": (blobs.adapter_files(), b".q.lora_B.", b".z.lora_B.", None),
    "an adapter's tensor": (blobs.adapter_files(), b".lora_B.", b".lora_C.", None),
    "whether LoRA was trained": (blobs.training_files(), b'"lora"', b'"lorb"', None),
    "a file of a training state": (blobs.training_files(), b'"__0_0.distcp"', b'".."', None),
    "where a weight is": (blobs.sharded_files(), b'"b": "model-00002', b'"c": "model-00002', None),
    "nothing": (blobs.delta_files(), b"", b"", CheckpointKind.INFERENCE_ARC_V2),
}


@pytest.mark.parametrize(("files", "old", "new", "kind"), HARMED.values(), ids=HARMED.keys())
def test_harm_that_once_was_misjudged(
    files: dict[str, bytes], old: bytes, new: bytes, kind: CheckpointKind | None
) -> None:
    assert any(old in content for content in files.values())
    assert kind_of({name: content.replace(old, new, 1) for name, content in files.items()}) is kind


def test_every_shard_is_missed_where_no_index_names_it() -> None:
    files = blobs.sharded_files()
    del files["model.safetensors.index.json"]
    assert kind_of(files) is CheckpointKind.INFERENCE_BASE
    for gone in [name for name in files if name.endswith(".safetensors")]:
        assert kind_of({name: content for name, content in files.items() if name != gone}) is None


def test_a_delta_among_full_weights_is_neither_whatever_the_files_are_called() -> None:
    full, delta = blobs.sharded_files(), blobs.delta_files()["model.safetensors"]
    named = json.dumps({"weight_map": {"a": "full.safetensors", "model.embed.weight": "delta.safetensors"}})
    whole = {"full.safetensors": full["model-00001-of-00002.safetensors"], "config.json": full["config.json"]}
    index = "model.safetensors.index.json"
    assert kind_of({**whole, index: b'{"weight_map": {"a": "full.safetensors"}}'}) is CheckpointKind.INFERENCE_BASE
    assert kind_of({**whole, index: named.encode(), "delta.safetensors": delta}) is None
