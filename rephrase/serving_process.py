"""Run a module as a program that ends with its parent; what `gradatim serve` starts in place of the server itself.

The parent holds the other end of this process's standard input and never writes to it. However the parent ends, by
kill -9 as well, the pipe closes: then this process asks itself to terminate, and after a while kills its whole group,
engines included, which it must lead.

Run it:  python -m rephrase.serving_process vllm.entrypoints.openai.api_server --model ...
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE = 20.0  # seconds between asking and killing


def main() -> None:
    """Take the module's name and its arguments from the command line, and be that program."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    leader = os.getpgrp() == os.getpid()
    if not leader or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        os.kill(os.getpid(), signal.SIGTERM)  # a program that handles it frees what it shares, and ends its engines
        time.sleep(GRACE)
    if leader:
        os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
