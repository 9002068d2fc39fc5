"""Every command that the documents show and the messages name, and what is wrong with one.

A command is checked as its program would check it: options and their choices by Click's own parser, targets and
variables by the Makefile, modules by their `--help`, files by their names. Nothing is run.
"""

import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from tests.conftest import PROJECT
from trainyard.launch.commands import main as trainyard

PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "examples/**/*.md", "deploy/**/*.md"]
OTHERS = {"docker", "jupyter", "kubectl", "pip", "pre-commit", "source", "weed"}
"""Programs that are not ours: that they are named right is all that is checked."""
ARGS_OF = {"run": "run", "predict": "serve predict", "runs": "runs --here", "compile": "compile"}
"""Which command the ARGS of a make target belong to."""
COMMAND_OF_TEXT = re.compile(
    r"(?<![\w./-])(?:trainyard (?!is |on |can |and )(?:(?:serve|store|schedule) [a-z]+|[a-z-]+)"
    r"(?: --?[a-z][^`'\";:,()\n]*)?"
    r"|make (?!(?:a|all|an|colours|it|no|one|room|sure|the|them|up)\b)[a-z][a-z-]*)"
)
"""In prose a command ends where a sentence goes on; only options are followed."""


@dataclass(frozen=True)
class Shown:
    """A command, and where it stands."""

    text: str
    where: str


def of_pages() -> list[Shown]:
    """Those in the code blocks of the documents, and those in backticks that begin with `trainyard` or `make`."""
    paths = sorted({path for pattern in PAGES for path in PROJECT.glob(pattern)})
    return [Shown(text, str(path.relative_to(PROJECT))) for path in paths for text in _of_page(path.read_text())]


def _of_page(page: str) -> Iterator[str]:
    fenced = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?:(?:^|\n) {4}[^\n]*)+", rest)
    for block in [*fenced, *indented]:
        for line in _joined(block):
            if re.match(r"(?:[A-Z_]+=\S+ +)*(?:\S*/)?[a-z][\w.-]*(?: |$)", line) and _is_command(line):
                yield line
    yield from re.findall(r"`((?:\.venv/bin/)?trainyard [a-z][^`\n]*|make [a-z][^`\n]*)`", rest)


def _joined(block: str) -> list[str]:
    """The lines of a block, those that end in a backslash joined to the next."""
    block = re.sub(r"(^|\n) {4}", r"\1", block)
    return [line.strip() for line in re.sub(r"\\\n\s*", "", block).splitlines()]


def _is_command(line: str) -> bool:
    return bool(
        re.match(r"(?:[A-Z_]+=\S+ +)*(?:\.venv/bin/\S+|trainyard|make|python3?|pip|source|kubectl|docker)(?: |$)", line)
    )


def of_texts() -> list[Shown]:
    """Those that messages, help texts and docstrings name: `trainyard ...` and `make ...`."""
    shown = []
    for path in [*PROJECT.glob("components/**/*.py"), *PROJECT.glob("launch/**/*.py"), PROJECT / "pipeline.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                where = f"{path.relative_to(PROJECT)}:{node.lineno}"
                text = re.sub(r"\\\n\s*", "", node.value)
                shown += [Shown(found.strip(" ."), where) for found in COMMAND_OF_TEXT.findall(text)]
    return shown


def wrong(shown: str, shortened: bool = False) -> str:
    """What is wrong with a command; empty: nothing.

    Args:
        shown: The command, with the comment behind it.
        shortened: Whether it may lack what is required; one with `...` in it may too.
    """
    try:
        words = shlex.split(re.sub(r"\$\([^)]*\)|<[^>]*>", "VALUE", shown), comments=True)
    except ValueError as error:
        return str(error)
    for end in ("|", "&", "&&", "||", ";", ">", ">>", "2>&1"):
        words = words[: words.index(end)] if end in words else words
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "trainyard":
        return _wrong_call(trainyard, arguments, shortened)
    if program == "make":
        return _wrong_target(arguments)
    if program in ("python", "python3"):
        return _wrong_module(arguments)
    return "" if program.rpartition("/")[2] in OTHERS else f"{program}: no program that is known here"


def _wrong_call(command: click.Command, arguments: list[str], shortened: bool = False) -> str:
    """What Click says of a call of one of our commands, whose values are not looked at but for choices."""
    context = click.Context(command, info_name="trainyard")
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *rest = arguments
        found = command.get_command(context, name)
        if found is None:
            return f"{context.command_path}: no command {name!r}"
        command, arguments = found, rest
        context = click.Context(command, info_name=name, parent=context)
    shortened = shortened or "..." in arguments or not arguments
    if "--help" in arguments:
        return ""
    try:
        values, _, _ = command.make_parser(context).parse_args([one for one in arguments if one != "..."])
    except click.UsageError as error:
        return "" if shortened and "requires an argument" in error.message else error.message
    for parameter in command.params:
        given = values.get(parameter.name or "")
        if parameter.required and given is None and isinstance(parameter, click.Option) and not shortened:
            return f"{parameter.opts[0]} is missing"
        for value in given if isinstance(given, list) else [given]:
            if (
                isinstance(parameter.type, click.Choice)
                and isinstance(value, str)
                and value not in parameter.type.choices
            ):
                return f"{parameter.opts[0]}: {value!r} is none of {', '.join(map(str, parameter.type.choices))}"
    return ""


def _wrong_target(arguments: list[str]) -> str:
    """What the Makefile lacks of a call of make."""
    text = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", text, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) [?:]?=", text, re.MULTILINE))
    called = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name not in variables:
            return f"make has no variable {name}"
        if name == "ARGS" and called and called[-1] in ARGS_OF:
            words = ARGS_OF[called[-1]].split() + shlex.split(value)
            if found := _wrong_call(trainyard, words, shortened=True):  # make adds the rest
                return f"ARGS: {found}"
        if not equals:
            called.append(name)
            if name not in targets:
                return f"make has no target {name}"
    return ""


def _wrong_module(arguments: list[str]) -> str:
    """What the `--help` of a module or file of ours lacks of a call."""
    arguments = [one for one in arguments if one not in ("-P",)]
    if arguments[:1] == ["-m"]:
        arguments = arguments[1:]
        if arguments[0] == "trainyard":
            return _wrong_call(trainyard, arguments[1:])
        if arguments[0] in ("venv", "pip", "pytest"):
            return ""
        start = ["-m", arguments[0]]
    else:
        start = arguments[:1]
        if start and not (PROJECT / start[0]).is_file():
            return f"{start[0]} does not exist"
    if not start:
        return ""
    own = [one for one in arguments[1:2] if re.fullmatch("[a-z-]+", one) and not one.startswith("-")]
    told = _help(*start, *own)
    options = [one.partition("=")[0] for one in arguments if one.startswith("--")]
    missing = [one for one in options if not re.search(rf"(?<![\w-]){re.escape(one)}(?![\w-])", told)]
    return f"{' '.join([*start, *own])} --help does not have {', '.join(missing)}" if missing else ""


@functools.cache
def _help(*start: str) -> str:
    done = subprocess.run([sys.executable, *start, "--help"], cwd=PROJECT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""
