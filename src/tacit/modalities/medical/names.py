"""How medical files are called, and pictures beside them."""

from __future__ import annotations

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")  # or any other, or none
VOLUME_ENDINGS = (".nii", ".nii.gz", ".mgh", ".mgz", ".mgh.gz", ".mnc")
