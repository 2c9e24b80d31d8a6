"""Starts a server: `python -m image_runtime SERVER_FOLDER ARGUMENTS...`, with the image's folder as working folder."""

import sys
from pathlib import Path

from .serving import serve

serve(Path(sys.argv[1]), sys.argv[2:])
