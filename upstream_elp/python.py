"""``python -m upstream_elp.python``, the same as ``elp python``: a program in which S3PRL knows our upstreams.

Processes that the program spawns import this module too and register our names in themselves.
"""

import sys

from upstream_elp.base.console import errors_in_one_line


def main() -> None:
    """Run as a program; a user's mistake gives one sentence and exit status 2."""
    from upstream_elp.launch.program import run

    with errors_in_one_line():
        run(sys.argv[1:])


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    from upstream_elp.launch.program import run_in_worker

    run_in_worker(globals())
