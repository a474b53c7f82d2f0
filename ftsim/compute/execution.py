"""The way in which a model is computed: precision, checkpointing, compilation, sampling. The wire has no word for it.

Importing this module imports no torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
CHECKPOINTING, COMPILE, BATCH_VARIANT, ASYNC_SAVE = "checkpointing", "compile", "batch-variant", "async-save"
SWITCHES = (CHECKPOINTING, COMPILE, BATCH_VARIANT, ASYNC_SAVE)


@dataclass(frozen=True)
class Execution:
    """The way to compute a model. In bfloat16, what is trained (masters, moments, adapters) stays in float32."""

    precision: Precision = "float32"
    checkpointing: bool = False
    """Layers keep their inputs alone and run again in the backward: the same numbers, to the bit."""
    compiled: bool = False
    """Layers are compiled by torch for each shape: other last bits than uncompiled ones, the same in each run."""
    batch_variant: bool = False
    """Sampling stays in float32 where it would go over float64: last bits depend on which rows share a step."""
    async_save: bool = False
    """A save copies what it is of, and is written while the steps go on: the same files, and no numbers change."""

    @classmethod
    def parse(cls, text: str, precision: str = "float32") -> "Execution":
        """From words with commas: `bfloat16,checkpointing,compile`; raises ValueError for any other word."""
        words = [word.strip() for word in text.split(",") if word.strip()]
        for word in words:
            if word not in (*PRECISIONS, *SWITCHES):
                known = ", ".join((*PRECISIONS, *SWITCHES))
                raise ValueError(f"{word[:40]!r} is no way to compute: write some of {known}, with commas")
        named = [word for word in words if word in PRECISIONS]
        if len(set(named)) > 1:
            raise ValueError(f"{' and '.join(named)}: a model is computed in one precision, write one of them")
        chosen: Any = named[0] if named else precision
        return cls(chosen, *(switch in words for switch in SWITCHES))

    @property
    def dtype(self) -> "torch.dtype":
        """The type of the weights that are computed with."""
        import torch

        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def words(self) -> str:
        """The text that `parse` reads."""
        on = (self.checkpointing, self.compiled, self.batch_variant, self.async_save)
        return ",".join([self.precision, *(word for word, is_on in zip(SWITCHES, on, strict=True) if is_on)])

    def noted(self) -> dict[str, Any]:
        """Return what a checkpoint says of it: nothing of the way in which that was written."""
        return {name: value for name, value in asdict(self).items() if name != "async_save"}

    def why_other(self, saved: Mapping[str, Any]) -> str:
        """Say what of a checkpoint's execution this one would falsify, "" for none: names the old and the new."""
        before = replace(self, precision=saved.get("precision", "float32"), compiled=bool(saved.get("compiled")))
        if before == self:
            return ""
        return (
            f"the checkpoint was trained with {before.words()}, this trainer computes with {self.words()}, and would "
            f"not go on with the same numbers: serve with --compute {before.words()}, or load it without its optimizer"
        )


FLOAT32 = Execution()


class Executions:
    """The execution of each base model: its own, else the one for all."""

    def __init__(self, given: Iterable[str] = (), precision: str = "float32") -> None:
        """`given` are texts of `Execution.parse`, some with `NAME=` before; raises ValueError."""
        self._own: dict[str, Execution] = {}
        self._usual = Execution.parse("", precision)
        for text in given:
            name, equals, words = text.rpartition("=")
            if equals and not name:
                raise ValueError(f"{text!r}: write NAME=WORDS, or WORDS for all models")
            if equals:
                self._own[name if "/" in name else f"accounts/fireworks/models/{name}"] = Execution.parse(words)
            else:
                self._usual = Execution.parse(words, precision)

    def of(self, base_model: str) -> Execution:
        """The execution of a base model by its full name."""
        return self._own.get(base_model, self._usual)

    def refuse_in_groups(self) -> None:
        """Raise ValueError for what a group of ranks does not compute."""
        for how in (self._usual, *self._own.values()):
            if how.async_save:
                raise ValueError(
                    f"the ranks of a trainer group write a save together, and at once: leave {ASYNC_SAVE} out, or "
                    "serve with one rank"
                )
            if how.compiled:
                raise ValueError(
                    f"a trainer group does not compile layers, which its ranks gather meanwhile: leave {COMPILE!r} out "
                    f"of {how.words()!r}, or serve with one rank"
                )
