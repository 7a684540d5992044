"""``python -m probe.mini.training``."""

import sys

from probe.mini.training.train import main

if __name__ == "__main__":
    sys.exit(main())
