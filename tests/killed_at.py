"""Run a script of the workflow whose training is killed, as by `kill -9`, at the end of an optimizer step.

python tests/killed_at.py STEP train_leg.py --manifest ...
"""

import os
import runpy
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    step, script = int(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(script).parent))
    from rnnt.training import callbacks

    go_on = callbacks.LegEnd.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer after each optimizer step."""
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        go_on(self, args, state, control, **kwargs)

    callbacks.LegEnd.on_step_end = on_step_end
    runpy.run_path(script, run_name="__main__")
