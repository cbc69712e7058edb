"""`kpx top`: the screen, or plain text where there is none."""

from __future__ import annotations

import locale
import os
import sys
from typing import TYPE_CHECKING

from kpx.tools.cluster import Options
from kpx.tools.errors import OK, reported
from kpx.top.glyphs import ASCII, UNICODE, Glyphs
from kpx.top.wish import Wish

if TYPE_CHECKING:
    from kpx.top.app import TopApp


def run(wish: Wish, options: Options) -> int:
    """`kpx top`."""
    return reported("top", lambda: _run(wish, options))


def _run(wish: Wish, options: Options) -> int:
    if wish.once or wish.plain or not _is_screen():
        from kpx.top.plain import run_plain

        return run_plain(wish, options)
    app = opened(wish, options)
    app.run(mouse=wish.mouse)
    return OK if app.return_code is None else app.return_code


def opened(wish: Wish, options: Options) -> TopApp:
    """The app. The node is read while Textual is loaded, which takes as long."""
    from kpx.top.reading.node import NodeReader
    from kpx.top.sampler import Sampler

    sampler = Sampler(NodeReader(options), wish.interval)
    sampler.begin()
    from kpx.top.app import TopApp

    return TopApp(sampler, glyphs(ascii=wish.ascii), wish.page, options)


def _is_screen() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def glyphs(*, ascii: bool) -> Glyphs:
    """The signs that the terminal can draw, as far as its locale tells."""
    unicode = locale.getpreferredencoding(do_setlocale=False).lower().replace("-", "") == "utf8"
    return UNICODE if unicode and not ascii else ASCII
