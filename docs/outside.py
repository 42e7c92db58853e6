"""For the site: what a page links to outside of `docs` is named by its path, and lists of pages."""

import re
from typing import Any

_OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+((?:deploy|tests|events|store|workers)[^)#]*)[^)]*\)"
)


def on_page_markdown(markdown: str, *, page: Any, files: Any, **_: Any) -> str:
    """Called by mkdocs for each page."""
    source = page.file.src_uri
    if source == "decisions/README.md":
        paths = sorted(file.src_uri for file in files.documentation_pages())
        records = [path for path in paths if re.match(r"decisions/\d", path)]
        markdown += "\n".join(f"- [{_title(path)}]({path.partition('/')[2]})" for path in records)
    return _OUTSIDE.sub(lambda link: f"`{link[2].rstrip('/')}`", markdown)


def _title(path: str) -> str:
    number, _, words = path.partition("/")[2].removesuffix(".md").partition("-")
    return f"{int(number)}. {words.replace('-', ' ').capitalize()}"
