"""Medical files below images and volumes: how DICOM, NIfTI and others are read, and whose they are."""
