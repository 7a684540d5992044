"""Makes the tiny pipelines of the probe's tests, and the helper modules of this folder, importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "probe")]
