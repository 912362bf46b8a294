"""The one exception that a user is meant to read."""


class ElpError(ValueError):
    """A wrong input, told in one sentence that names the file or key and what to do.

    The command line prints the sentence without a traceback and exits with status 2.
    """
