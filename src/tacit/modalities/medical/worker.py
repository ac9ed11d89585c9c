"""Reads the header of a medical file in a decoding process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tacit.data.worker import Question
from tacit.modalities.medical import dicom, files, nifti


def answer(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bytes, bytes]:
    """A `tacit.data.worker.Decoder`: what is read of a header, as JSON; null for a picture."""
    source = question.source
    form = files.form(source)
    about = dicom.about(source) if form == files.DICOM else nifti.about(source) if form == files.VOLUME else None
    return bytes(16), json.dumps(about).encode()
