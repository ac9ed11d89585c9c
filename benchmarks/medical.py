"""How fast medical images are read and cached: one JSON line per case.

    python benchmarks/medical.py [--files 2000] [--size 512] [--many 10000]

`ct`: uncompressed CT slices with a rescale and a window, opened for the first time and again from the cache; slices per
second of wall time, by as many workers as there are processors (taskset -c 0,1 for two). `bare`: the same without a
window, of which all are gone through twice, since one scale is found for all. `many`: so many small slices, of which
the memory of this process counts, and that of its largest worker.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from record import record

DISTINCT = 50  # slices; the others repeat their bytes under another name


def write(folder: Path, n: int, size: int, window: bool) -> None:
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(n):
        path = folder / f"{number // 100:04d}" / f"{number:06d}.dcm"
        path.parent.mkdir(exist_ok=True)
        if number >= DISTINCT:
            first = number % DISTINCT
            path.write_bytes((folder / "0000" / f"{first:06d}.dcm").read_bytes())
            continue
        ds = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.Modality, ds.PatientID, ds.Rows, ds.Columns = "CT", f"P{number // 10}", size, size
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        if window:
            ds.WindowCenter, ds.WindowWidth = 40, 400
        ds.PixelData = rng.integers(0, 3000, (size, size)).astype(np.int16).tobytes()
        ds.save_as(path, enforce_file_format=True)


def opened(case: str, folder: Path, n: int, size: int) -> None:
    from tacit.dataset import open_dataset

    for time_of in ("first", "again"):
        began = time.perf_counter()
        data = open_dataset(str(folder), cache=str(folder.parent / "cache"))
        seconds = time.perf_counter() - began
        assert len(data) == n
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        own, workers = (resource.getrusage(of).ru_maxrss for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        memory = {"own_mb": round(own / 1024), "worker_mb": round(workers / 1024)}
        memory["own_without_mapped_files_mb"] = round(int(status["RssAnon"].split()[0]) / 1024)
        speed = {"per_second": round(n / seconds, 1)}
        load = {"load": round(os.getloadavg()[0], 1), "time": time.strftime("%H:%M")}
        record(f"medical {case} {time_of}", files=n, size_px=size, **speed, **memory, **load)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--many", type=int, default=10_000)
    asked = parser.parse_args()
    cases = [("ct", asked.files, asked.size, True), ("bare", asked.files, asked.size, False)]
    cases += [("some", asked.many // 10, 64, True), ("many", asked.many, 64, True)]
    for case, n, size, window in cases:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder, case), n, size, window)
            opened(case, Path(folder, case), n, size)


if __name__ == "__main__":
    main()
