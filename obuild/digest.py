"""SHA-256 without OpenSSL, for the small texts that are digested on the way to a hit.

`hashlib` loads libcrypto, a tenth of the time of a cached build; it is quicker only from some hundred kilobytes on.
"""

from __future__ import annotations

try:
    from _sha2 import sha256  # Python 3.12 and later
except ImportError:
    try:
        from _sha256 import sha256
    except ImportError:  # another implementation of Python
        from hashlib import sha256

__all__ = ["sha256"]
