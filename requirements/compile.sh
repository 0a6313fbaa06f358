#!/bin/sh
# Re-locks the requirements with hashes and with no download address in them: the mirror is the machine's own affair.
# dev is resolved first and constrains the rest, so that workstation, simulator and image never disagree on a version.
set -eu
cd "$(dirname "$0")"
flags="--quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate"
pip-compile $flags "$@" --output-file=dev.txt dev.in
pip-compile $flags --constraint=dev.txt --output-file=sim.txt sim.in
pip-compile $flags --constraint=dev.txt --output-file=runtime.txt runtime.in
pip-compile $flags --constraint=dev.txt --output-file=mutation.txt mutation.in
