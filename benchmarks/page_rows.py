"""Tables of a page that a benchmark writes: what stands between two marks is replaced, the rest is prose."""

from __future__ import annotations

from pathlib import Path

_END = "<!-- end of rows -->"


def replace_rows(page: Path, results: str, rows: str) -> None:
    """Replace what stands between ``<!-- rows of RESULTS -->`` and the next end mark.

    Args:
        results: name of the result file that the rows are of.

    Raises:
        SystemExit: the page lacks a mark.
    """
    begin = f"<!-- rows of {results} -->"
    before, _, rest = page.read_text().partition(begin)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise SystemExit(f"error: '{page}' lacks the marks {begin} and {_END}")
    page.write_text(f"{before}{begin}\n{rows}\n{_END}{after}")
