"""The exceptions that stand for what the user can mend: a mistake in the input, a full disk."""

import unicodedata

LONGEST = 2000  # characters of a message


class UserError(Exception):
    """Bad input. The message is one line: what is wrong where, what was expected, what to do.

    It may quote the input, whatever that is: what is no plain text in it is escaped, the middle of a long one left out.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught "):  # torch, of a data loader's process: its traceback, and what it raised
            message = message.strip().splitlines()[-1].partition(": ")[2]
        message = "".join(map(_plain, message))
        half = LONGEST // 2
        super().__init__(message if len(message) <= LONGEST else f"{message[:half]} [...] {message[-half:]}")


class DiskFull(UserError):
    """No room where something is written: `disk full: FOLDER, N MB are needed`."""


def _plain(sign: str) -> str:
    """A sign; one that a terminal acts on or a file can't hold as Python writes it: `\\x1b`, `\\ud800`."""
    return ascii(sign)[1:-1] if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign
