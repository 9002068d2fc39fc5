"""What the steps would refuse, found before the first of them runs: their own rules, asked for all of them at once."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from ..components.evaluate.gate import check_gate
from ..components.export.address import check_place
from ..components.serve.here.target import ServerOptions
from ..components.serve.kserve.specification import InferenceServiceOptions
from ..components.serve.orders import Order
from ..components.train.hyperparameters import Hyperparameters


def check(parameters: Mapping[str, Any]) -> None:
    """Look at the parameters of a pipeline that were given; what the data or the store tells is left to the steps.

    Raises:
        BadInput: a step does not take one.
    """

    def ask(rule: Callable[..., Any], **otherwise: Any) -> None:
        given = {name: parameters[name] for name in signature(rule).parameters if name in parameters}
        rule(**{**otherwise, **given})

    ask(Hyperparameters)
    ask(check_gate)
    ask(check_place)
    ask(Order, action="apply", model_name="", model_uri="")
    ask(InferenceServiceOptions)
    ask(ServerOptions)
