"""torchrun, with the exit status of the process that failed first.

`python -m PACKAGE.engine.launch --nproc-per-node=2 -m PACKAGE train` takes what torchrun takes.
torchrun itself exits with 1 whatever failed, so that a script can't tell a run that has saved its
state, and wants to be started again, from one that failed.
"""

import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from .signals import RESUME_ME


def main(argv: list[str] | None = None) -> int:
    """Start the processes and wait for them; returns the exit status."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a cluster sends it to all: the runs save
    try:
        run(parse_args(argv))
    except ChildFailedError as error:
        return int(error.get_first_failure()[1].exitcode) % 256
    except SignalException:
        return RESUME_ME  # it has passed the signal on, and waited for the runs to save
    return 0


if __name__ == "__main__":
    sys.exit(main())
