"""Files that come with the package."""

from pathlib import Path


def recipes_dir() -> Path:
    """Folder of the shipped recipes, in the wheel and in a checkout alike."""
    here = Path(__file__).resolve().parents[1]
    return next(path for path in (here / "recipes", here.parent / "recipes") if path.is_dir())
