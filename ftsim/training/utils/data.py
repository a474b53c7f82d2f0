"""The names of `training.data`, where programs written for the service import them."""

from ftsim.training.data.files import (
    BadRow as BadRow,
    Row as Row,
    read_rows as read_rows,
)
from ftsim.training.data.forms import read_supervised as read_supervised
from ftsim.training.data.notes import Notes as Notes
from ftsim.training.data.store import (
    datum as datum,
    fit as fit,
)
from ftsim.training.data.supervised import (
    Loaded as Loaded,
    load_supervised as load_supervised,
    load_tokenizer as load_tokenizer,
    read_objects as read_objects,
)
from ftsim.training.data.turns import (
    Conversation as Conversation,
    Example as Example,
    Text as Text,
    TextRow as TextRow,
    Turns as Turns,
)
