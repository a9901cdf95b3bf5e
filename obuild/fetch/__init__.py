"""Base images: filling an empty root file system from a Docker reference, a tar, a directory, an OCI layout, Debian.

`open_fetcher(source)` parses the user's string once and imports the one back-end that it needs:

    debian:13, docker:REF     a Docker reference: through a Docker engine when one answers, otherwise from the registry
    debootstrap:SUITE[?include=a,b]   a minimal Debian or Ubuntu, made by mmdebstrap
    tar:FILE   dir:PATH       a root file system
    oci:PATH                  an OCI image layout
"""
