"""Ctrl-C while the vendor's client hands over a request.

fireworks-ai 1.2.28 then closes a coroutine that its own thread has begun, and fails with a ValueError about a
`ContextVar` in place of the KeyboardInterrupt, which is left in the error's chain alone. Whether the request went
out is unknown, and calls of the same client may never return: a new client goes on, from what was saved.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def named_interrupts() -> Iterator[None]:
    """Raise a KeyboardInterrupt for what fails inside because of one."""
    try:
        yield
    except Exception as error:
        if was_interrupted(error):
            raise KeyboardInterrupt from error
        raise


def was_interrupted(error: BaseException | None) -> bool:
    """Tell whether a KeyboardInterrupt is in the chain of an error."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
