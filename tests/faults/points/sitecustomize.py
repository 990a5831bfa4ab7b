"""Imported by every Python child whose PYTHONPATH names this folder: makes servers and workers die, or err, where a test says.

Production code has no switches for this. A child that cannot be prepared ends at once: a fault that was never planted proves
nothing.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback

if os.environ.get("SWITCHBOARD_TEST_POINTS") and sys.orig_argv[1:3] == ["-m", "server"]:
    # As the process itself does while it imports: what is measured is its own start, not this one.
    gc.disable()
    try:
        import child_bugs
        import child_points

        child_points.install(os.environ["SWITCHBOARD_TEST_POINTS"], role=sys.orig_argv[3])
        child_bugs.install(os.environ.get("SWITCHBOARD_TEST_BUG", ""), role=sys.orig_argv[3])
    except BaseException:
        traceback.print_exc()
        os._exit(3)
