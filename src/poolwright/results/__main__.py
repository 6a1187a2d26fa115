"""`python -m poolwright.results`: run the result repository with the settings of the environment."""

from __future__ import annotations

import sys

from poolwright.results.service import main

sys.exit(main())
