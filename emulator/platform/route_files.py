"""Routes of experts kept as files: samplers write them, trainers read what a datum refers to (FAILURES E40).

    <state>/routes/<store>/<digits>.parquet      one row for each position that has a route, column `routing_matrix`

A store belongs to a trainer, and a reference to another trainer's store is refused. How the service lays out its files
is not known; the references are those of the vendor's client. A file lives for as long as was asked for, on the
emulator's clock, and is no part of a snapshot.
"""

import base64
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.core.clock import SECOND
from emulator.core.errors import FailedPrecondition, InvalidArgument, NotFound
from emulator.quirks import inference
from emulator.state.world import World

FORMAT = "parquet_v1"
STORE_HEADER, TTL_HEADER = "x-fireworks-r3-store-id", "x-fireworks-r3-ttl-seconds"
_COLUMN, _EXPIRES = "routing_matrix", b"expires"
_STORE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_FILE = re.compile(r"[0-9a-f]{32}\.parquet")


class RouteFiles:
    """Writes and reads the files of all stores."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder

    def clear(self) -> None:
        """Delete every file."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep(self, store: str, routes: Sequence[bytes | None], ttl_s: float) -> Mapping[str, Any]:
        """Write the routes of an answer, one for each of its rows; gives what stands in the choice."""
        there = [route for route in routes if route is not None]
        files = [self._write(store, there, ttl_s)] if there else []
        spans = list(_spans(routes))
        return {
            "routing_matrix_format": FORMAT,
            "r3_store_id": store,
            "routing_references": {"length": len(routes), "files": files, "spans": spans},
        }

    def inline(self, store: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """A batch with the routes that its datums refer to written out; raises InvalidArgument, NotFound."""
        data = batch.get("data")
        if not isinstance(data, Sequence):
            return batch
        return {**batch, "data": [self._datum(store, at, datum) for at, datum in enumerate(data)]}

    def _datum(self, store: str, at: int, datum: Any) -> Any:
        model_input = datum.get("model_input") if isinstance(datum, Mapping) else None
        if not isinstance(model_input, Mapping) or not model_input.get("routing_references"):
            return datum
        if model_input.get("routing_matrices"):
            raise InvalidArgument(f"datum {at}: send routing_matrices or routing_references, not both")
        if model_input.get("routing_matrix_format") != FORMAT:
            raise InvalidArgument(f"datum {at}: routing_references go with routing_matrix_format {FORMAT}")
        matrices = self._read(store, f"datum {at}: routing_references", model_input["routing_references"])
        own = {"routing_matrices": matrices, "routing_references": None, "routing_matrix_format": None}
        return {**datum, "model_input": {**model_input, **own}}

    def _read(self, store: str, where: str, references: Any) -> list[str]:
        """The base64 of each position's route, "" where there is none."""
        try:
            length, files, spans = (references[key] for key in ("length", "files", "spans"))
            names = [(file["store_id"], file["format"], file["path"]) for file in files]
            ranges = [
                (one["input_token_start"], one["count"], one.get("file_index"), one.get("file_row_start"))
                for one in spans
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidArgument(
                f"{where} are not {{length, files, spans}}: {error} is missing or of no use"
            ) from None
        if any(name != store for name, _, _ in names):
            raise InvalidArgument(f"{where}: R3 reference belongs to a different shared storage domain than {store}")
        if any(form != FORMAT for _, form, _ in names):
            raise InvalidArgument(f"{where}: a file is not {FORMAT}")
        rows = [self._rows(store, where, str(path)) for _, _, path in names]
        matrices: list[str] = []
        for start, count, index, first in ranges:
            if start != len(matrices) or type(count) is not int or count <= 0:
                raise InvalidArgument(f"{where} must cover each position once, from 0 to {length}, in order")
            if index is None:
                matrices += [""] * count
                continue
            if type(index) is not int or not 0 <= index < len(rows) or type(first) is not int or first < 0:
                raise InvalidArgument(f"{where}: the span at {start} names no row of a file")
            if first + count > len(rows[index]):
                raise InvalidArgument(
                    f"{where}: the span at {start} goes beyond the {len(rows[index])} rows of its file"
                )
            matrices += [base64.b64encode(row).decode() for row in rows[index][first : first + count]]
        if len(matrices) != length:
            raise InvalidArgument(f"{where} cover {len(matrices)} positions and say {length}")
        return matrices

    def _write(self, store: str, routes: list[bytes], ttl_s: float) -> Mapping[str, Any]:
        arrow, parquet = _arrow()
        name = f"{self._world.ids.hex(32)}.parquet"
        folder = self._folder / store
        folder.mkdir(parents=True, exist_ok=True)
        expires = self._world.clock.now() + int(ttl_s * SECOND)
        table = arrow.table({_COLUMN: arrow.array(routes, arrow.binary())})
        aside = folder / f".{name}"
        parquet.write_table(table.replace_schema_metadata({_EXPIRES: str(expires)}), aside)
        aside.rename(folder / name)
        return {"store_id": store, "format": FORMAT, "path": name, "row_count": len(routes)}

    def _rows(self, store: str, where: str, name: str) -> list[bytes]:
        _, parquet = _arrow()
        file = self._folder / store / name
        if not _FILE.fullmatch(name) or not file.is_file():
            raise NotFound(f"{where}: {name[:80]} is not in {store}: sample again, or train before its time is over")
        table = parquet.read_table(file)
        expires = int((table.schema.metadata or {}).get(_EXPIRES, 0))
        if self._world.clock.now() >= expires:
            file.unlink(missing_ok=True)
            raise NotFound(f"{where}: {name} was kept for its time and is gone: sample again, or ask for a longer one")
        found: list[bytes] = table.column(_COLUMN).to_pylist()
        return found


def store_of(owner_id: str) -> str:
    """The store of a trainer's job or session."""
    return f"store-{owner_id}"


def wanted(world: World, headers: Mapping[str, str]) -> tuple[str, float]:
    """The store and the seconds that a request's headers name; raises InvalidArgument."""
    store = headers.get(STORE_HEADER, "")
    if not _STORE.fullmatch(store):
        raise InvalidArgument(f"routing_matrix_format {FORMAT} needs the trainer's r3_store_id in {STORE_HEADER}")
    said = headers.get(TTL_HEADER)
    if said is None:
        return store, world.quirks.value(inference.ROUTES_TTL_S)
    if not said.isdigit() or not int(said):
        raise InvalidArgument(f"{TTL_HEADER} is {said[:40]!r}: give whole seconds, at least one")
    return store, float(said)


def _spans(routes: Sequence[bytes | None]) -> Iterator[dict[str, int]]:
    """Runs of rows with routes, which follow each other in the file, and runs of rows without."""
    start = written = 0
    while start < len(routes):
        end = start
        while end < len(routes) and (routes[end] is None) == (routes[start] is None):
            end += 1
        span = {"input_token_start": start, "count": end - start}
        if routes[start] is not None:
            span |= {"file_index": 0, "file_row_start": written}
            written += end - start
        yield span
        start = end


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise FailedPrecondition(
            "routes are kept as files by pyarrow, which is not here: pip install 'ftsim-emulator[tables]'"
        ) from None
    return pyarrow, parquet
