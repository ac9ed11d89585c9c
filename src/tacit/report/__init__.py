"""The report to share with others: one HTML file that opens offline, and the same numbers as JSON."""

from __future__ import annotations

from tacit.report.curves import Curve
from tacit.report.figures import Figures, Neighbours, Picture, Points, Recommended
from tacit.report.found import PAGE_MADE_BY, found_page
from tacit.report.page import render, write
from tacit.report.private import private_report, without_data

__all__ = [
    "PAGE_MADE_BY",
    "Curve",
    "Figures",
    "Neighbours",
    "Picture",
    "Points",
    "Recommended",
    "found_page",
    "private_report",
    "render",
    "without_data",
    "write",
]
