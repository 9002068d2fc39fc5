"""What the steps would refuse, found before the first of them runs: their own rules, asked for all of them at once."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from components.evaluate.gate import check_gate
from components.export.place import check_place
from components.serve.actions import Order
from components.serve.process import Kind
from components.serve.service_spec import Service
from components.train.hyperparameters import Hyperparameters


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
    ask(Service)
    ask(Kind)
