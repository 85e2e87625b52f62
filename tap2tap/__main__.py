"""Makes `python -m tap2tap` the same as the `tap2tap` command."""

import sys

from tap2tap.cli import main

sys.exit(main())
