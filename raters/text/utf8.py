"""UTF-8 to code points, compiled. The bytes must be valid UTF-8: `arrow.chunks_of` has checked them."""

# numba infers the types inside kernels; mypy would hold them to NumPy's scalar types instead.
# mypy: disable-error-code="assignment, return-value, no-any-return, no-untyped-def"

import numpy as np

from raters.text.compiled import helper


@helper
def decode(data: np.ndarray, start: int, end: int, points: np.ndarray) -> int:
    """Write the code points of data[start:end] (uint8) into points (uint32) and return how many there are."""
    n = 0
    i = start
    while i < end:
        lead = np.uint32(data[i])
        if lead < 0x80:
            points[n] = lead
            i += 1
        elif lead < 0xE0:
            points[n] = ((lead & 0x1F) << 6) | (data[i + 1] & 0x3F)
            i += 2
        elif lead < 0xF0:
            points[n] = ((lead & 0x0F) << 12) | ((np.uint32(data[i + 1]) & 0x3F) << 6) | (data[i + 2] & 0x3F)
            i += 3
        else:
            high = ((lead & 0x07) << 18) | ((np.uint32(data[i + 1]) & 0x3F) << 12)
            points[n] = high | ((np.uint32(data[i + 2]) & 0x3F) << 6) | (data[i + 3] & 0x3F)
            i += 4
        n += 1
    return n
