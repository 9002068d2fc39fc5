"""Fan-out, fan-in and an exit handler: several steps side by side, one that joins them, one that runs in any case.

python -m examples.fan_out run
python -m examples.fan_out run --runner docker
python -m examples.fan_out compile fan-out.yaml
"""

from typing import Any

from kfp import dsl

from examples.demo import PYTHON, announce, command_line

WORDS = ("fan", "out", "again")

COUNT = """
import os, sys
os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True)
open(sys.argv[2], "w").write(str(len(sys.argv[1])))
"""
ADD = """
import os, sys
*numbers, total = sys.argv[1:]
os.makedirs(os.path.dirname(total), exist_ok=True)
open(total, "w").write(str(sum(map(int, numbers))))
"""


@dsl.container_component
def count(word: str, letters: dsl.OutputPath(int)) -> dsl.ContainerSpec:
    """Count the letters of a word."""
    return dsl.ContainerSpec(PYTHON, ["python3", "-c", COUNT], [word, letters])


@dsl.container_component
def add(a: int, b: int, c: int, total: dsl.OutputPath(int)) -> dsl.ContainerSpec:
    """Add three numbers."""
    return dsl.ContainerSpec(PYTHON, ["python3", "-c", ADD], [a, b, c, total])


def build(image: str = PYTHON) -> Any:
    """The pipeline, with the image of its steps."""

    @dsl.pipeline(name="fan-out")
    def fan_out() -> None:
        with dsl.ExitHandler(announce().set_container_image(image)):
            counts = [count(word=word).set_container_image(image).outputs["letters"] for word in WORDS]
            add(**dict(zip("abc", counts, strict=True))).set_container_image(image)

    return fan_out


main = command_line(build, "add/total")

if __name__ == "__main__":
    main()
