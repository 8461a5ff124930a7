"""torchrun, with the exit status of the process that failed first.

`python -m PACKAGE.engine.launch --nproc-per-node=2 -m PACKAGE train` takes what torchrun takes.
torchrun itself exits with 1 whatever failed, so that a script can't tell a run that has saved its
state, and wants to be started again, from one that failed.
"""

import os
import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from .signals import CODES, RESUME_ME


def main(argv: list[str] | None = None) -> int:
    """Start the processes and wait for them; returns the exit status. Later signals don't count."""
    # What asks a run to save is passed on to it, with time to do so; torchrun gives it 30 s.
    handled = [name for name in (*CODES, "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
    patient = ["--signals-to-handle", ",".join(handled)]
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "3600")  # older torch has 30 s for all
    try:
        run(parse_args(patient + (sys.argv[1:] if argv is None else argv)))
    except ChildFailedError as error:
        status = int(error.get_first_failure()[1].exitcode)
        return status if status >= 0 else 128 - status  # as a shell calls those that were killed
    except SignalException as error:
        return CODES.get(signal.Signals(error.sigval).name, RESUME_ME)
    finally:
        for name in handled:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
