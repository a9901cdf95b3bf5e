#!/bin/sh
# Who is not told whom to greet greets the world.
set -e
./greet | grep -q world
./greet you | grep -q you
