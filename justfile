# What is done here again and again. `./run just` lists it, docs/howto/use-just.md explains it.
#
# Jobs and questions go to the platform of HODEI_URL, else to the `hodei dev` of this user: start one with `just dev`,
# or in the background with `just dev-server`.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments := true

worker_image := env("HODEI_WORKER_IMAGE", "hodei-jobs-worker:latest")
server_image := "hodei-jobs:latest"
wheels := "dist"
base_image := env("BASE_IMAGE", "")
build_network := env("BUILD_NETWORK", "default")
docker_build := "docker build --network " + build_network + if base_image == "" { "" } else { " --build-arg BASE_IMAGE=" + base_image }
newest_job := "./run hodei job list --limit 1 | awk 'NR == 2 { print $1 }'"
dev_log := env("XDG_STATE_HOME", home_directory() / ".local/state") / "hodei/dev.log"

_list:
    @just --list --unsorted

# Everything in this terminal, until Ctrl-C
[group('run')]
dev:
    ./run hodei dev

# Postgres and Redis alone, until Ctrl-C: for services that are started one by one
[group('run')]
dev-db:
    ./run hodei embedded

# Bring the database's schema to what this version needs
[group('run')]
db-migrate:
    ./run hodei db upgrade

# All that a job needs, in the background: the worker image where Docker runs, then every service
[group('run')]
dev-server:
    @! docker version >/dev/null 2>&1 || docker image inspect {{ worker_image }} >/dev/null 2>&1 || {{ just_executable() }} build-worker
    ./run hodei dev --detach

# Everything in this terminal, with jobs in pods: Kubernetes must be reachable, Docker is not used
[group('run')]
dev-k8s:
    HODEI_KUBERNETES_ENABLED=1 HODEI_DOCKER_ENABLED=0 ./run hodei dev

# End what `just dev-server` or `just dev` started
[group('run')]
stop-server:
    ./run hodei stop

# The platform for one job, and a report
[group('run')]
demo:
    ./run hodei demo

# All that is built: both images and the command line
[group('build')]
build: build-server build-worker build-cli

# The control plane's image. BASE_IMAGE and BUILD_NETWORK (such as host) say on what and with which network
[group('build')]
build-server tag=server_image:
    {{ docker_build }} -t {{ quote(tag) }} -f deploy/Dockerfile .

# The worker image. BASE_IMAGE and BUILD_NETWORK (such as host) say on what and with which network
[group('build')]
build-worker tag=worker_image:
    {{ docker_build }} -t {{ quote(tag) }} workers

# The wheel that brings hodei, hodei-jobs-cli and hodei-agent
[group('build')]
build-cli folder=wheels:
    ./run hatchling build -t wheel -d {{ quote(folder) }}

# Remove what was built and cached in this checkout; data of the embedded servers stays
[group('build')]
clean:
    rm -rf dist build e2e-report .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
    find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# The end-to-end procedure: infra, build, jobs, validate, report or all
[group('test')]
e2e *phases:
    PYTHONPATH=tests ./run python -m e2e "$@"

# One job, on whatever provider there is
[group('jobs')]
job-test:
    ./run hodei job run --name test --command 'echo "it works on $(uname -n)"' --follow

# Where a job is: the smallest example
[group('jobs')]
job-hello-world: (_example "auto" "hello_world.sh")

# Every example that succeeds, one after the other
[group('jobs')]
job-examples-all: (_examples "auto" "hello_world.sh data.py cpu.py memory.py ml.py build.py")

# The newest jobs; --status failed and --limit narrow them
[group('jobs')]
job-list *options:
    @./run hodei job list "$@"

# A job, why it is where it is, and what happened to it; the newest without an id
[group('jobs')]
[no-exit-message]
job-details id="":
    @id={{ quote(id) }}; id=${id:-$({{ newest_job }})}; ./run hodei job get --id "$id"; ./run hodei job why "$id"; ./run hodei job events "$id"

# Cancel a job, and wait until nothing of it lives
[group('jobs')]
[no-exit-message]
job-cancel id:
    ./run hodei job cancel {{ quote(id) }} --wait

# Hello from a container
[group('jobs on Docker')]
job-docker-hello: (_example "docker" "hello_world.sh")

# Data processing in a container
[group('jobs on Docker')]
job-docker-data: (_example "docker" "data.py")

# Work for one core in a container
[group('jobs on Docker')]
job-docker-cpu: (_example "docker" "cpu.py" "--cpu 1")

# Memory in a container that may have 256 MiB
[group('jobs on Docker')]
job-docker-memory: (_example "docker" "memory.py" "--memory 256m")

# A small network, trained in a container
[group('jobs on Docker')]
job-docker-ml: (_example "docker" "ml.py")

# Compile, test and pack a project in a container
[group('jobs on Docker')]
job-docker-build: (_example "docker" "build.py")

# All of these
[group('jobs on Docker')]
job-docker-all: job-docker-hello job-docker-data job-docker-cpu job-docker-memory job-docker-ml job-docker-build

# Hello from a pod
[group('jobs on Kubernetes')]
job-k8s-hello: (_example "kubernetes" "hello_world.sh")

# Data processing in a pod
[group('jobs on Kubernetes')]
job-k8s-data: (_example "kubernetes" "data.py")

# Work for half a core in a pod
[group('jobs on Kubernetes')]
job-k8s-cpu: (_example "kubernetes" "cpu.py" "--cpu 0.5 --memory 128m")

# All of these
[group('jobs on Kubernetes')]
job-k8s-all: job-k8s-hello job-k8s-data job-k8s-cpu

# The workers' pods, as the cluster has them
[group('jobs on Kubernetes')]
job-k8s-pods:
    @PYTHONPATH=tests ./run python -m e2e.pods

# The same work on every provider that takes jobs, and where the time went
[group('jobs')]
job-provider-comparison script="docs/examples/jobs/cpu.py":
    ./run python docs/examples/compare_providers.py {{ quote(script) }}

# Jobs that must run at the same time, each in a worker of its own
[group('jobs')]
job-concurrent-test count="5" provider="auto":
    ./run python docs/examples/many_jobs.py {{ quote(count) }} --provider {{ quote(provider) }} --name concurrent --at-once 2 --command 'sleep 3'

# Many jobs at once: each must succeed, whatever has to wait
[group('jobs')]
job-stress-test count="50" provider="auto":
    ./run python docs/examples/many_jobs.py {{ quote(count) }} --provider {{ quote(provider) }} --name stress --command 'echo "$HODEI_JOB_ID"'

# A job that fails: its exit code, its stderr, its cause
[group('jobs')]
job-error:
    ./run hodei job run --name error --script docs/examples/jobs/error.sh --follow || test $? = 3

# The tests; arguments go to pytest
[group('test')]
test *arguments:
    ./run pytest "$@"

# The tests of parts on real servers
[group('test')]
test-integration *arguments:
    ./run pytest tests/integration "$@"

# What every provider must do, on each of them
[group('test')]
test-multi-provider *arguments:
    ./run pytest tests/contract/test_provider_contract.py tests/contract/test_process_provider.py tests/contract/test_docker_provider.py "$@"

# What every provider must do, on Kubernetes; HODEI_K8S_TEST=1: on the cluster of KUBECONFIG
[group('test')]
test-multi-provider-k8s *arguments:
    ./run pytest tests/contract/test_provider_contract.py -k kubernetes "$@"

# All about Kubernetes; HODEI_K8S_TEST=1: on the cluster of KUBECONFIG
[group('test')]
test-k8s-provider *arguments:
    ./run pytest tests/contract/test_pods.py tests/contract/test_pods_in_trouble.py tests/contract/test_pods_rights.py tests/integration/kubernetes tests/acceptance/kubernetes "$@"

# Have every provider that takes jobs run one
[group('look')]
verify-providers:
    ./run hodei provider list
    ./run python docs/examples/compare_providers.py docs/examples/jobs/hello_world.sh

# Look now whether the providers work
[group('look')]
[no-exit-message]
check-provider-health *provider:
    @./run hodei provider health "$@"

# Is it all well, and if not, what to do
[group('look')]
[no-exit-message]
status:
    @./run hodei status

# Follow a job's log; the newest job's without an id
[group('look')]
[no-exit-message]
logs id="":
    @id={{ quote(id) }}; ./run hodei job logs --follow "${id:-$({{ newest_job }})}"

# Follow what `just dev-server` says
[group('look')]
[no-exit-message]
logs-server lines="100":
    @test -e {{ quote(dev_log) }} || { echo "There is no log of a background server: just dev-server" >&2; exit 1; }
    @tail -n {{ quote(lines) }} -F {{ quote(dev_log) }}

# Follow a worker's own copy of its job's output: the newest container, or a worker's id
[group('look')]
[no-exit-message]
logs-worker id="":
    @name=$(docker ps --latest --quiet --filter name=hodei-worker-{{ id }} --filter status=running); \
        test -n "$name" || { echo "No worker's container runs. What is stored of a job: just logs" >&2; exit 1; }; \
        docker logs --follow "$name"

# Jobs that are not done or ended badly, and why
[group('debug')]
debug-jobs: (_ask "jobs")

# Workers, what each does, and when it was last heard of
[group('debug')]
debug-workers: (_ask "workers")

# What waits: jobs, events, sagas
[group('debug')]
debug-queue: (_ask "queue")

# Every row of a job: attempts, workers, sagas, log files; of the newest without an id
[group('debug')]
debug-job id="": (_ask "job" id)

# What happened in a job and its sagas, in the order of time; of the newest without an id
[group('debug')]
debug-job-timeline id="": (_ask "timeline" id)

# The newest jobs, again every two seconds, until Ctrl-C
[group('look')]
watch-jobs: (_watch "job list --limit 20")

# The newest workers, again every two seconds, until Ctrl-C
[group('look')]
watch-workers: (_watch "worker list --limit 20")

# What ruff finds
[group('check')]
lint:
    ./run ruff check .

# Format, and mend what ruff can
[group('check')]
format:
    ./run ruff check --fix .
    ./run ruff format .

# What mypy finds
[group('check')]
typecheck:
    ./run mypy

# What must hold before a commit, without the tests
[group('check')]
check: lint typecheck
    ./run ruff format --check .

# Pin every dependency again, with hashes; needs uv
[group('check')]
lock *arguments:
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
        --all-extras pyproject.toml -o requirements.lock {{ arguments }}
    echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-header --no-annotate -c requirements.lock pyproject.toml - -o deploy/requirements.lock

# The pages of the reference that follow from the code
[group('check')]
docs:
    ./run python docs/generate.py

_example provider script options="":
    ./run hodei job run --provider {{ provider }} --script docs/examples/jobs/{{ script }} {{ options }} --timeout 5m --follow

_examples provider scripts:
    for script in {{ scripts }}; do {{ just_executable() }} _example {{ provider }} "$script"; done

_ask question id="":
    @id={{ quote(id) }}; [[ {{ question }} != job && {{ question }} != timeline ]] || id=${id:-$({{ newest_job }})}; \
        ./run hodei db psql --set job="$id" --set ON_ERROR_STOP=1 --pset pager=off --quiet --file deploy/debug/{{ question }}.sql

_watch command:
    @while :; do printf '\033[H\033[2J'; ./run hodei {{ command }}; sleep 2; done
