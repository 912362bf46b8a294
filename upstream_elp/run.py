"""``python -m upstream_elp.run``, the same as ``elp run``: S3PRL's run_downstream with our names.

Spawned data-loading processes import this module too and register our names in themselves.
"""

import sys

from upstream_elp.base.console import errors_in_one_line
from upstream_elp.base.ranks import end_rank
from upstream_elp.launch.start import run


def main() -> None:
    """Run as a program; a user's mistake gives one sentence and exit status 2."""
    with errors_in_one_line():
        run(sys.argv[1:])
    end_rank()


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    from upstream_elp.launch.registry import register_worker

    register_worker()
