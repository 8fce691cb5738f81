#!/usr/bin/env python3
"""unpack_recording.py RECORDING FOLDER: write the /proc and /sys files of a recorded machine below a folder."""

import gzip
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    recording, folder = Path(sys.argv[1]), Path(sys.argv[2])
    files = json.loads(gzip.decompress(recording.read_bytes()))["boot"]["files"]
    for name, text in files.items():
        place = folder / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
