"""The documentation hangs together: every page can be reached, and every link leads somewhere."""

import ast
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parent.parent
LIST = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
NAMES = subprocess.run(LIST, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
PAGES = sorted(ROOT / name for name in NAMES if (ROOT / name).exists() and not name.startswith("tests/"))
LINK = re.compile(r"\]\(([^()\s]+)\)")


def _prose(page: Path) -> str:
    """The text of a page without its code, in which brackets and # mean other things."""
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return re.sub(r"`[^`\n]*`(?!\]\()", "", text)


def _links(page: Path) -> list[str]:
    return LINK.findall(_prose(page))


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page; a repeated heading gets -1, -2 and so on."""
    found: dict[str, int] = {}
    anchors = set()
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, flags=re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{found[anchor]}" if anchor in found else anchor)
        found[anchor] = found.get(anchor, 0) + 1
    return anchors


def _broken(page: Path, link: str) -> str:
    """What is wrong with a link of a page; empty if nothing is."""
    if re.match(r"[a-z]+:", link):
        url = urlsplit(link)
        well_formed = url.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", url.netloc)
        return "" if well_formed else "not a well-formed https URL"
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{target} does not exist"
    if not target.is_relative_to(ROOT.resolve()):
        return "leads out of the repository"
    if anchor and target.suffix == ".md" and anchor not in _anchors(target):
        return f"no heading #{anchor}; has {', '.join(sorted(_anchors(target)))}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """Relative links name a file that exists and a heading in it; others are whole URLs."""
    assert {link: broken for link in _links(page) if (broken := _broken(page, link))} == {}


def test_every_page_is_linked_from_the_readme_or_the_index() -> None:
    """A page that neither README.md nor docs/README.md names is found by nobody."""
    indices = [ROOT / "README.md", ROOT / "docs" / "README.md"]
    linked = {(index.parent / link.partition("#")[0]).resolve() for index in indices for link in _links(index)}
    pages = {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - {index.resolve() for index in indices}
    assert pages, "docs/ has no pages"
    assert sorted(str(page.relative_to(ROOT.resolve())) for page in pages - linked) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """The check itself: code is not searched, a missing file, heading or host is told."""
    page = ROOT / "README.md"
    assert _broken(page, "docs/artifacts.md#data-set") == ""
    assert "does not exist" in _broken(page, "docs/no-such-page.md")
    assert "no heading #nowhere" in _broken(page, "docs/artifacts.md#nowhere")
    for link in ("http://example.com", "https://example", "mailto:somebody"):
        assert _broken(page, link)
    page = tmp_path / "page.md"
    page.write_text("# A [b](c.md) `d`\n\n[seen](a.md) `[not](b.md)`\n\n```\n# none\n[not](c.md)\n```\n\n# A b d\n")
    assert _links(page) == ["c.md", "a.md"]
    assert _anchors(page) == {"a-b-d", "a-b-d-1"}


def _texts_of_the_code() -> str:
    """Every string of the code but docstrings, without what is put in at run time, and the Makefile."""
    texts = [(ROOT / "Makefile").read_text("utf-8")]
    for path in [*(ROOT / "components").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(one.value) if isinstance(one, ast.Constant) else "\0" for one in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                texts.append(node.value)
    return "\n".join(texts)


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code() -> None:
    """The page quotes messages; a message that is reworded has to be reworded there."""
    texts = _texts_of_the_code()
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)
    assert len(quoted) >= 20
    assert [text for text in quoted if any(part not in texts for part in text.split(" ... "))] == []
