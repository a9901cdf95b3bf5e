#!/bin/sh
echo "out of a zip"
