"""Two steps in order: the second goes on from what the first one said.

python -m examples.two_steps run
python -m examples.two_steps run --runner docker
python -m examples.two_steps compile two-steps.yaml
"""

from typing import Any

from kfp import dsl

from examples.demo import PYTHON, command_line

WRITE = """
import os, sys
os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)
open(sys.argv[1], "w").write("the first step was here")
"""
ADD = """
import os, sys
os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True)
open(sys.argv[2], "w").write(sys.argv[1] + ", and so was the second")
"""


@dsl.container_component
def first(said: dsl.OutputPath(str)) -> dsl.ContainerSpec:
    """Say something."""
    return dsl.ContainerSpec(PYTHON, ["python3", "-c", WRITE], [said])


@dsl.container_component
def second(before: str, text: dsl.OutputPath(str)) -> dsl.ContainerSpec:
    """Add to what was said before."""
    return dsl.ContainerSpec(PYTHON, ["python3", "-c", ADD], [before, text])


def build(image: str = PYTHON) -> Any:
    """The pipeline, with the image of its steps."""

    @dsl.pipeline(name="two-steps")
    def two_steps() -> None:
        said = first().set_container_image(image).outputs["said"]
        second(before=said).set_container_image(image)

    return two_steps


main = command_line(build, "second/text")

if __name__ == "__main__":
    main()
