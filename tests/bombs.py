"""Files that run code if a loader allows it; the code creates a folder as a mark."""

import os

MARK = "bomb-went-off"


class Bomb:
    """Code that a pickle runs if it is loaded carelessly."""

    def __reduce__(self):
        return os.mkdir, (MARK,)


OBJECT = f"!!python/object/apply:os.mkdir ['{MARK}']"
