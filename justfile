# What is done here again and again. `./run just` lists it.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# Everything in this terminal, until Ctrl-C
dev:
    ./run hodei dev

# The platform for one job, and a report
demo:
    ./run hodei demo

# The tests; more arguments go to pytest
test *arguments:
    ./run pytest {{ arguments }}

# What ruff finds
lint:
    ./run ruff check .

# Format, and mend what ruff can
format:
    ./run ruff check --fix .
    ./run ruff format .

# What mypy finds
typecheck:
    ./run mypy

# What must hold before a commit, without the tests
check: lint typecheck
    ./run ruff format --check .

# The worker image
build-worker tag="hodei-jobs-worker:latest":
    docker build -t {{ tag }} workers

# The control plane's image
build tag="hodei-jobs:latest":
    docker build -t {{ tag }} -f deploy/Dockerfile .

# Pin every dependency again, with hashes; needs uv
lock *arguments:
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
        --all-extras pyproject.toml -o requirements.lock {{ arguments }}
    echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-header --no-annotate -c requirements.lock pyproject.toml - -o deploy/requirements.lock

# The pages of the reference that follow from the code
docs:
    ./run python docs/generate.py
