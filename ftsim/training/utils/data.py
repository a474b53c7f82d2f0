"""The names of `training.data.supervised`, where programs written for the service import them."""

from ftsim.training.data.supervised import (
    ROLES as ROLES,
    Example as Example,
    Loaded as Loaded,
    Row as Row,
    T as T,
    TextRow as TextRow,
    check_messages as check_messages,
    datum as datum,
    fit as fit,
    load_supervised as load_supervised,
    load_tokenizer as load_tokenizer,
    read_jsonl as read_jsonl,
    read_objects as read_objects,
    render as render,
    tokenize as tokenize,
    trained_on as trained_on,
)
