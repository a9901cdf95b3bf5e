"""The store: finished layers under their ids, drafts being written, cache directories.

The laws, which `tests/test_store.py` runs on every back-end:

1. `new(id, parents)` holds the lock of `id` across threads and processes. Whoever waited finds the result in
   `draft.layer` and reuses it, and is meanwhile given the live log through `follow`.
2. Leaving the block normally publishes the layer in one rename, `layer.json` and log already inside.
3. Leaving it by an exception leaves nothing or, with `keep_failed`, the failed tree and its log: never a hit.
4. If somebody published `id` meanwhile, theirs wins and ours is dropped silently.
5. A killed process never leaves a hit that is not whole, a mount, a running container or a secret on disk; the next
   start removes the rest. Mounts therefore live in a private mount namespace.

On disk, relocatable (nothing absolute inside):

    STORE/
      store.json                 {"format": 1, "kind": "overlay"}
      steps/<id>/                layer.json  build.log  env.json  fs/
      failed/<id>/               the same, of steps that failed and were kept
      cache/<escaped name>/      fs/ and a generation
      index/  images/  sources/  runs/
      locks/<escaped id>  tmp/<random>/   what is being written, each under a lock that dies with its process

An id without a slash lives in `steps/`; one with a slash (`debian-12-x86_64/<build-id>`) is its own directory.
"""
