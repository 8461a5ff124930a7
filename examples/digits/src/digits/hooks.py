"""Your hooks: any class here can be named under `hooks` in a config, with its arguments.

Hooks hear of training. A hook has those of these methods that it needs; the first argument of each
is the `engine.session.Session`, with `config`, `task`, `run`, `device`, and `state`: its `model`,
`optimizer`, `step`, `epoch` and more. `session.finish = True` validates and ends the run.

    on_start(session)
    on_gradients(session)             they are complete, and not clipped yet
    on_step(session)                  after a step of the optimizer
    on_log(session, figures)          every `train.log_every` steps; may add figures
    on_validation(session, figures)   the same after a validation
    on_epoch(session)
    on_save(session, contents)        of the checkpoint that is written next
    on_exception(session, error)      signals included
    on_end(session)
    state_dict(), load_state_dict(state)   what checkpoints keep: tensors and plain values

In several processes, rank 0 has the hooks; those with `all_ranks = True` are in each.
"""

from typing import Any


class WeightNorm:
    """Adds the norm of all weights to the progress line, to `steps.csv` and to trackers."""

    def on_log(self, session: Any, figures: dict[str, float]) -> None:
        squares = [weight.detach().square().sum() for weight in session.weights]
        figures["weight_norm"] = float(sum(squares)) ** 0.5
