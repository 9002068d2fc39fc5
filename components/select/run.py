"""Select the better one of two evaluated models."""

from dataclasses import dataclass
from pathlib import Path

from ..common.artifacts.evaluation import EVALUATION
from ..common.artifacts.model import CARD
from ..common.files import atomic_folder, copy_folder
from .comparison import Candidate, Comparison


@dataclass(frozen=True)
class Evaluated:
    """A model folder, and the evaluation folder of that model."""

    model: Path
    evaluation: Path


def select(first: Evaluated, second: Evaluated, metric: str, better: Evaluated) -> Comparison:
    """Copy the better of two models, with its evaluation; of equals, the first.

    Args:
        first: A model.
        second: The model to compare with it.
        metric: What decides between models that both passed their gates, or both did not.
        better: Where the folders are to appear.

    Returns:
        The comparison of these two and of all models that lost to them before.

    Raises:
        BadInput: a folder is not what it should be, or they were evaluated on different images.
    """
    candidates = [Candidate.read(one.model, one.evaluation) for one in (first, second)]
    earlier = [Comparison.read(one.evaluation) for one in (first, second)]
    compared = Comparison.of([*candidates, *(one for past in earlier if past for one in past.candidates)], metric)
    winner = first if candidates[0].rank(metric) >= candidates[1].rank(metric) else second
    with atomic_folder(better.model, CARD) as model, atomic_folder(better.evaluation, EVALUATION) as evaluation:
        copy_folder(winner.model, model)
        copy_folder(winner.evaluation, evaluation)
        compared.write(evaluation)
    return compared
