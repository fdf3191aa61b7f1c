"""Take a picture of the top of a page with headless Chromium: `python docs/picture.py results/report.html PNG`."""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1000, 1055  # pixels: the figures of a default run
COLORS = 64
MOST = 200_000  # bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="results/report.html")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        sys.exit("error: no Chromium on this machine: the picture is taken with it")
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "page.png"
        command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        command += [f"--user-data-dir={folder}/profile", f"--screenshot={taken}", options.page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        with Image.open(taken) as image:
            options.picture.parent.mkdir(parents=True, exist_ok=True)
            image.convert("RGB").quantize(COLORS).save(options.picture, optimize=True)
    size = options.picture.stat().st_size
    if size > MOST:
        sys.exit(f"error: {options.picture}: {size} bytes, expected at most {MOST}: lower HEIGHT or COLORS")


if __name__ == "__main__":
    main()
