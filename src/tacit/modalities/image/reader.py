"""How images are read."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from tacit.core.errors import UserError
from tacit.data.listing import File, Listing, Objects, Word
from tacit.data.options import Reading
from tacit.data.signs import suffix_of
from tacit.data.source import Source, join
from tacit.data.store import Keeping, Kept
from tacit.modalities.image import decode
from tacit.modalities.image.arrays import digits_source, file_source, objects_source
from tacit.modalities.image.options import DIGITS, Options
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.image.store import open_cache
from tacit.modalities.medical import patients
from tacit.modalities.medical.headers import forget, headers, medical
from tacit.modalities.reader import Examples, Found, Reader

_ARRAYS = (".npy", ".npz")
_BEYOND = 0.05  # share of a test set's pixel values that may lie outside the scale of the others


class ImageReader(Reader[Options]):
    name = "image"
    options = Options
    wholes = "samples"

    def claim(self, listing: Listing, options: Options, reading: Reading, reserved: frozenset[str]) -> Source | None:
        if isinstance(listing, Word) and listing.name == DIGITS:
            return digits_source()
        if isinstance(listing, File) and suffix_of(listing.path.name) in _ARRAYS:
            return file_source(listing.path)
        if isinstance(listing, Objects) and reading.kind in (None, self.name):
            return objects_source(listing.value, listing.name)
        return None

    def several(self, source: Source) -> bool:
        return medical(source)

    def join(self, train: Source, test: Source) -> Source:
        joined, of, others = join(train, test), train.about, test.about
        if of is None or others is None or of.numbers != others.numbers:
            return joined
        # The scale comes from the training data alone, the number of bits from all data of its type.
        scale = decode.scale_of(of)
        beyond = (others.some < scale.low) | (others.some > scale.high)
        if len(beyond) and beyond.mean() > _BEYOND:
            raise UserError(
                f"--test {test.name} holds pixel values from {others.low:,.6g} to {others.high:,.6g}, where those of "
                f"{train.name} are read so that {scale.describe()}: scale both alike"
            )
        return replace(joined, about=of._replace(blocks=lambda: chain(of.blocks(), others.blocks())))

    def examples(self, found: Found[Options]) -> Examples:
        """Of medical files also the patients, and other columns of their headers that a person names."""
        if not medical(found.source):
            return super().examples(found)
        abouts = headers(found.source)
        forget()
        return patients.examples(found, abouts, self.wholes)

    def store(self, source: Source, options: Options, keeping: Keeping) -> Kept:
        size, reads = options.image_size, options.reads
        framing = None
        if isinstance(size, ImageSpec):
            framing, reads, size = size.framing, size, size.size
        assert size is None or isinstance(size, int)
        assert reads is None or isinstance(reads, ImageSpec)
        return open_cache(source, size, keeping, reads, framing)


READER = ImageReader()
