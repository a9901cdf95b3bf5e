"""Digests without OpenSSL, for what is digested on the way to a hit: SHA-256 of small texts, BLAKE2 of anything.

`hashlib` loads libcrypto, a tenth of the time of a cached build; it is quicker only from some hundred kilobytes on.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import blake2b as blake2
    from hashlib import sha256
else:
    try:
        from _blake2 import blake2b as blake2

        try:
            from _sha2 import sha256  # Python 3.12 and later
        except ImportError:
            from _sha256 import sha256
    except ImportError:  # another implementation of Python
        from hashlib import blake2b as blake2
        from hashlib import sha256

__all__ = ["blake2", "sha256"]
