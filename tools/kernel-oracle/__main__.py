"""``python tools/kernel-oracle COMMAND``: ask a real kernel.  docs/oracle.md says how."""

import sys

from oracle.command import main

if __name__ == "__main__":
    sys.exit(main())
