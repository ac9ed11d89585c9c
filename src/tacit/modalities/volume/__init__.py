"""Volumes, such as CT and MR scans."""
