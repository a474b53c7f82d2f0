"""Every switch there is: name, default, what it does, the failures it reproduces (docs/failures.md)."""

from emulator.quirks import Quirk

QUIRKS: tuple[Quirk, ...] = (
    # rows: what a checkpoint list shows
    Quirk("rows.time_precision", "micros", "Fractional digits of createTime; mixed alternates seconds and micros.",
          ("A1", "A2", "A3", "A5"), ("micros", "mixed", "seconds", "millis", "nanos")),
    Quirk("rows.visible_after_lists", 0, "A new row shows only after so many list calls.", ("A6", "A3")),
    Quirk("rows.visible_after_s", 0.0, "A new row shows only after so many seconds.", ("A6", "A3")),
    Quirk("rows.page_size_cap", 1000, "The largest page the server gives, whatever is asked.", ("A7",)),
    Quirk("clock.skew_s", 0.0, "The server's stamps are off by so many seconds.", ("A4",)),
    # saving and loading
    Quirk("save.on_duplicate", "conflict", "A resumable save under a name that exists: refused or replaced.",
          ("B1", "B2"), ("conflict", "overwrite")),
    Quirk("names.enforce_on_save", False, "Refuse at save what the SDK would refuse at load.", ("B3", "B4")),
    Quirk("sampler.delta_without_base", "reject", "A full-parameter model's first delta: refused, or stored as base.",
          ("B11",), ("reject", "store")),
    # promotion
    Quirk("models.id_rule", "sdk", "Which ids a promotion accepts.", ("D4",), ("sdk", "dns_label")),
    Quirk("promote.async", "inline", "How promotion answers: at once, through an operation, or not knowing the field.",
          ("D7", "D8", "D9"), ("inline", "operation", "unsupported")),
    Quirk("promote.on_existing", "conflict", "Promoting onto a taken model id.", ("D5", "D6"),
          ("conflict", "same_source_ok")),
    Quirk("promote.blob", "present", "Whether promotion finds the blob behind a listed row.", ("D3",),
          ("present", "missing")),
    Quirk("promote.base_model", "required", "Whether base_model must be sent.", ("D11",), ("required", "inferred")),
    Quirk("rows.promotable_flips", False, "A row listed as promotable is refused when promoted.", ("D10",)),
    Quirk("operations.pending_reads", 0, "Reads of an operation before it is done.", ("D9",)),
)  # fmt: skip
