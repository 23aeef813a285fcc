"""Set before matplotlib reads it, because a backend that is not installed is an error on import."""

import os

os.environ["MPLBACKEND"] = "Agg"
