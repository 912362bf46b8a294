"""Files that would run code where a loader let them: it leaves a folder as a mark."""

import os

MARK = "bomb-went-off"


class Bomb:
    """What a pickle runs when it is loaded without care."""

    def __reduce__(self):
        return os.mkdir, (MARK,)


OBJECT = f"!!python/object/apply:os.mkdir ['{MARK}']"
