"""Check that every link inside a built site leads to a file that is there, and to a place in it.

    python scripts/check_links.py site

Addresses of other hosts are left alone: the site is built without a network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one element links to and is called."""
        for name, value in attrs:
            if value is None:
                continue
            if name in ("href", "src"):
                self.links.append(value)
            elif name == "id" or (tag == "a" and name == "name"):
                self.places.add(value)


read = cache(Page)


def find_dead_links(site: Path) -> Iterator[str]:
    """Yield a complaint for each link of each page below `site` that leads nowhere."""
    for path in sorted(site.rglob("*.html")):
        for link in sorted(set(read(path).links)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not target.is_file():
                yield f"{path}: {link} is not there"
            elif not _has_place(target, unquote(parts.fragment)):
                yield f"{path}: {link}: there is no such place on the page"


def _has_place(target: Path, place: str) -> bool:
    return not place or target.suffix != ".html" or place in read(target).places


def main() -> int:
    """Check the site named on the command line and return the exit code."""
    site = Path(sys.argv[1])
    if not (site / "index.html").is_file():
        print(
            f"{site}/index.html is not there; build the site first: hatch run docs", file=sys.stderr
        )
        return 1
    complaints = list(find_dead_links(site))
    print("\n".join(complaints) or f"no dead link in {site}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
