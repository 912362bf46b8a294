"""The page in a real browser."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.programs import call
from tests.sweep_folders import toy_sweep
from upstream_elp.summary import report
from upstream_elp.summary.pictures import COLOURS

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def near(pixels, colour):
    """How many pixels have a colour, as far as a browser and its smoothing keep it."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(pixels.astype(int) - wanted).max(axis=-1) <= 6).sum())


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [1150, 420], ids=["desktop", "telephone"])
def test_chromium_shows_tables_and_pictures_without_a_network(width, tmp_path):
    page = report.write(toy_sweep(tmp_path / "sweep")).page
    shot, page = tmp_path / "page.png", page.as_uri()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path}/profile"]
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    done = call([BROWSER, *flags, offline, f"--window-size={width},6000", f"--screenshot={shot}", page])
    assert done.returncode == 0 and shot.is_file(), done.stderr
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape[:2] == (6000, width)
    for colour in COLOURS[1:3]:  # lines and markers of the second and third method
        assert near(pixels, colour) > 100, colour
    assert near(pixels, "#cfe6f5") > 1000, "the best values are marked"
    shown = (pixels < 128).all(axis=-1).any(axis=1)  # rows with dark text
    assert shown[:5000].mean() > 0.2
