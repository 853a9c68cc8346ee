"""Where to look next: settings proposed by optuna from the trials so far. Needs the extra `sweep`.

The trials themselves are kept in sweep.json; the study is made anew from them each time, and the proposal for trial k
is seeded by (seed, k): a search that was killed goes on as if it had not been.
Source: Bergstra et al. 2011 (TPE), as optuna implements it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gen_core.engine.seeds import stable_seed
from gen_core.errors import MissingError
from gen_core.options import SearchOptions
from gen_core.recipe.write import value_text

Trial = tuple[dict[str, Any], float | None]
"""Settings, and the value found; None for a trial that failed."""


def ask(
    space: dict[str, SearchOptions], tried: Sequence[Trial], n: int, seed: int, maximize: bool
) -> list[dict[str, Any]]:
    """Settings of the next n trials. Raises: MissingError without optuna."""
    try:
        import optuna
    except ImportError:
        raise MissingError("--optuna needs the package optuna: pip install 'gen-imaging[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces = {key: _distribution(optuna, options) for key, options in space.items()}
    past = []
    for settings, value in tried:
        if not settings.keys() == spaces.keys():
            continue  # of another search space
        good = value is not None and math.isfinite(value)
        past.append(
            optuna.trial.create_trial(
                params={key: _plain(value) for key, value in settings.items()},
                distributions=spaces,
                value=value if good else None,
                state=optuna.trial.TrialState.COMPLETE if good else optuna.trial.TrialState.FAIL,
            )
        )
    proposals = []
    for k in range(len(tried), len(tried) + n):
        sampler = optuna.samplers.TPESampler(seed=stable_seed(seed, "trial", k) % 2**32)
        study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
        study.add_trials(past)
        found = study.ask(spaces).params
        proposals.append({key: _choice(space[key], value) for key, value in found.items()})
    return proposals


def _distribution(optuna: Any, options: SearchOptions) -> Any:
    if options.choices:
        return optuna.distributions.CategoricalDistribution([_plain(choice) for choice in options.choices])
    whole = isinstance(options.low, int) and isinstance(options.high, int)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    return kind(options.low, options.high, log=options.log)


def _plain(value: Any) -> Any:
    """A list as text: optuna chooses among plain values only."""
    return value_text(value) if isinstance(value, list | tuple) else value


def _choice(options: SearchOptions, value: Any) -> Any:
    """The choice that optuna saw as `value`; a value of a range is itself."""
    return next((choice for choice in options.choices if _plain(choice) == value), value)
