"""``python -m masked_attn``: the command line lives in ``cli/``."""

import sys

from masked_attn.cli import main

if __name__ == "__main__":
    sys.exit(main())
