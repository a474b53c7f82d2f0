"""Promotions: rows that can become models and those that cannot, lost and broken blobs, ids of every form."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from emulator.state.blobs import RECORD
from ftsim.testing.tiny import NAME
from tests.properties.machines import model
from tests.properties.machines.choices import Row, check, model_ids, promotable_rows, refusal_of, rows, some_rows
from tests.properties.machines.machine import Machine

OTHER_MODEL = "accounts/fireworks/models/qwen3-8b"


class Promotions(Machine):
    """A promotion succeeds exactly when table, blob, base model, id and retention allow."""

    @some_rows()
    @rule(row=rows())
    def promote_any_row(self, row: Row) -> None:
        self.try_to_promote(row)

    @precondition(lambda self: self.promotable_rows())
    @rule(row=promotable_rows(), base=st.sampled_from([NAME, NAME, OTHER_MODEL]))
    def promote(self, row: Row, base: str) -> None:
        self.try_to_promote(row, base)

    @precondition(lambda self: self.world["models"] and self.promotable_rows())
    @rule(row=promotable_rows())
    def promote_onto_a_taken_id(self, row: Row) -> None:
        self.try_to_promote(row, output=next(iter(self.world["models"])))

    @precondition(lambda self: self.promotable_rows())
    @rule(row=promotable_rows(), base=st.sampled_from([NAME, NAME, NAME, OTHER_MODEL]))
    def promote_a_lost_blob(self, row: Row, base: str) -> None:
        """The row is listed and its files are not found (FAILURES D3); a wrong base model is said first."""
        with self.stage.emulator.quirks.set("promote.blob", "missing"):
            self.try_to_promote(row, base, blob="missing")

    @precondition(lambda self: self.promotable_rows())
    @rule(row=promotable_rows(), which=st.integers(0, 9), left=st.sampled_from([0.0, 0.5, 0.9]))
    def promote_a_truncated_blob(self, row: Row, which: int, left: float) -> None:
        """One file lacks its end, any of them; nothing of the attempt stays, and a whole blob promotes afterwards."""
        job, name = row
        folder = self.stage.blob(self.stage.row(job, name))
        # The record beside them is for recovery: a row knows its files without it.
        files = sorted(path for path in folder.iterdir() if path.name != RECORD)
        with self.truncated(files[which % len(files)], left):
            self.try_to_promote(row, blob="truncated")
        self.try_to_promote(row)

    def truncated(self, path: Path, left: float) -> contextlib.AbstractContextManager[None]:
        """A file of a blob with only this share of it left inside the block, where it counts."""
        return truncated(path, left)

    @some_rows()
    @rule(row=rows(), output=model_ids())
    def promote_under_any_id(self, row: Row, output: str) -> None:
        """By plain HTTP, since the SDK refuses most of these ids itself (FAILURES D4)."""
        job, name = row
        account = f"/v1/accounts/{self.stage.account}"
        body = {
            "output_model": f"accounts/{self.stage.account}/models/{output}",
            "trainer_job_id": f"accounts/{self.stage.account}/rlorTrainerJobs/{job}",
            "base_model": NAME,
        }
        answer = self.stage.http.post(f"{account}/checkpoints/{name}:promote", json=body)
        said = None if answer.status_code == 200 else f"HTTP {answer.status_code} {answer.json()['message']}"
        self.promoted(row, said, output)

    def try_to_promote(self, row: Row, base: str = NAME, output: str = "", blob: str = "") -> None:
        job, name = row
        output = output or f"model-{next(self.names)}"
        full_name = f"accounts/{self.stage.account}/rlorTrainerJobs/{job}/checkpoints/{name}"
        said = refusal_of(
            self.stage.manager.promote_checkpoint, name=full_name, output_model_id=output, base_model=base
        )
        self.promoted(row, said, output, base=base, blob=blob)

    def promoted(self, row: Row, said: str | None, output: str, *, base: str = NAME, blob: str = "") -> None:
        """It is as the model says, and the platform holds the models of the model and no others."""
        job, name = row
        held = self.world["jobs"][job]["rows"].get(name)
        predicted = model.predict_promote(self.world, held, base_is_right=base == NAME, output=output, blob=blob)
        if check(said, predicted, f"promotion of {name} to {output!r}"):
            assert held is not None
            self.world["models"][output] = held
            self.check_model(output, held)
        assert {made.id for made in self.stage.emulator.world.models} == set(self.world["models"])
        assert not any((self.stage.emulator.platform.blobs.root / ".staging").iterdir()), (
            "a promotion left files behind"
        )

    def check_model(self, output: str, row: dict[str, Any]) -> None:
        """The promoted model's weights are the trainer's at the moment of the save."""
        made = self.stage.emulator.world.models.get(f"accounts/{self.stage.account}/models/{output}")
        assert made is not None
        assert made.state == "READY"
        assert made.kind == ("HF_PEFT_ADDON" if row["kind"] == "INFERENCE_LORA" else "HF_BASE_MODEL")
        assert made.source_step == row["step"]
        self.check_files(self.stage.emulator.platform.blobs.path(made.blob), row)


@contextlib.contextmanager
def truncated(path: Path, left: float) -> Iterator[None]:
    """A file with only this share of it left inside the block; it may be linked elsewhere, where nothing changes."""
    aside = path.with_name(f".{path.name}.aside")
    path.rename(aside)
    try:
        whole = aside.read_bytes()
        path.write_bytes(whole[: int(len(whole) * left)])
        yield
    finally:
        aside.replace(path)
