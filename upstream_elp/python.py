"""``python -m upstream_elp.python``, the same as ``elp python``: a program in which S3PRL knows our upstreams.

Processes that the program spawns import this module too and register our names in themselves.
"""

import sys

from upstream_elp.base.console import errors_in_one_line
from upstream_elp.launch import program


def main() -> None:
    """Run as a program; a user's mistake gives one sentence and exit status 2."""
    with errors_in_one_line():
        program.run(sys.argv[1:])


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    program.run_in_worker(globals())
