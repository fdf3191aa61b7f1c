"""The one exception that stands for a mistake in the input."""


class UserError(Exception):
    """Bad input. The message is one line: what is wrong where, what was expected, what to do."""
