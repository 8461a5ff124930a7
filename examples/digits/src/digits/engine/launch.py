"""torchrun, with the exit status of the process that failed first.

`python -m PACKAGE.engine.launch --nproc-per-node=2 -m PACKAGE train` takes torchrun's options.
torchrun always exits with 1: a script could not tell a run to resume (75) from one that failed.
"""

import os
import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from .signals import CODES, RESUME_ME


def main(argv: list[str] | None = None) -> int:
    """Start the processes, wait for them, and ignore later signals; returns the exit status."""
    # Signals are passed on to the run, which then has an hour to save; torchrun's default is 30 s.
    handled = [name for name in (*CODES, "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
    patient = ["--signals-to-handle", ",".join(handled)]
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "3600")  # older torch: always 30 s
    try:
        run(parse_args(patient + (sys.argv[1:] if argv is None else argv)))
    except ChildFailedError as error:
        status = int(error.get_first_failure()[1].exitcode)
        return status if status >= 0 else 128 - status  # a shell's status for a killed process
    except SignalException as error:
        return CODES.get(signal.Signals(error.sigval).name, RESUME_ME)
    finally:
        for name in handled:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
