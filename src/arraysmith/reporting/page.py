"""What a page is made of: sections with figures, tables and listings, as plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go

    from arraysmith.reporting.tables import Table

_UNUSED_BUTTONS = ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A number people look for first."""

    value: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Lines of code under a heading."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report."""

    anchor: str
    title: str
    text: str = ""
    figures: Sequence[Markup] = ()
    wide_figures: Sequence[Markup] = ()
    """Each as wide as the page."""
    tables: Sequence[Table] = ()
    listings: Sequence[Listing] = ()
    listing_title: str = ""
    """Of all of them; a click opens it."""
    image: str = ""
    """A data URI."""
    image_text: str = ""
    designs: Mapping[str, Any] | None = None
    """A table to sort and filter, with the front that it belongs to."""


def embed(figure: go.Figure, anchor: str | None = None) -> Markup:
    """A figure as a div and its script; plotly escapes `<`, `>` and `/` inside the JSON.

    Args:
        figure: to draw.
        anchor: the div's id, if the page needs to know it.
    """
    return Markup(  # noqa: S704
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=anchor,
            config={"displaylogo": False, "modeBarButtonsToRemove": _UNUSED_BUTTONS},
        )
    )


def embed_scrolling(figure: go.Figure, least_width: int) -> Markup:
    """A figure that is never drawn narrower than so many pixels; a narrow page scrolls it."""
    return Markup(
        '<div class="scroll" tabindex="0"><div style="min-width: {}px">{}</div></div>'
    ).format(least_width, embed(figure))
