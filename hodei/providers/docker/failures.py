"""What Docker and registries answer when something is wrong, in the platform's codes. Pure."""

from __future__ import annotations

from hodei.domain.causes import Failure

BUILTIN_IMAGE = "hodei-jobs-worker"
BUILD_COMMAND = "docker build -t {image} -f workers/Dockerfile workers"

_NO_SHELL = ("executable file not found", "no such file or directory", "exec format error")
_UNSATISFIABLE = ("range of cpus", "minimum memory limit", "minimum memoryswap", "memory limit should be")
_FULL = ("no space left", "cannot allocate memory", "disk quota exceeded", "resource temporarily unavailable")
_AUTH = (
    "unauthorized",
    "authentication required",
    "incorrect username or password",
    "no basic auth credentials",
)
_LIMITED = ("toomanyrequests", "too many requests")
_NETWORK = (
    "dial tcp",
    "i/o timeout",
    "no such host",
    "handshake timeout",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "deadline exceeded",
    "client.timeout",
    "proxyconnect",
    "server misbehaving",
    "unexpected eof",
)


def refused(status: int, words: str, *, image: str) -> Failure:
    """Docker refused to create or start a container; ``words`` are its own."""
    text = words.lower()
    if _has(text, _UNSATISFIABLE):
        return Failure(code="ERR_4005", message=f"Docker cannot give the resources asked for: {words}")
    if _has(text, _FULL):
        return Failure(code="ERR_3002", message=f"The Docker host is out of resources: {words}")
    if "network" in text and "not found" in text:
        return Failure(
            code="ERR_5007",
            message=f"{words}: create the network with docker network create, or correct config.network.",
        )
    if "mount config" in text or "mount path" in text:
        return Failure(
            code="ERR_5007", message=f"{words}: correct config.mounts, or make what it names there."
        )
    if ("oci runtime" in text or "runc" in text or "container process" in text) and _has(text, _NO_SHELL):
        return Failure(
            code="ERR_1010",
            message=f"The image {image} has no /bin/sh to start the agent with; "
            "use an image with sh and Python 3.8 or later.",
        )
    if "unable to find user" in text or "no matching entries in passwd" in text:
        return Failure(
            code="ERR_1010", message=f"The image {image} names a user that it does not have: {words}"
        )
    code = "ERR_5008" if status >= 500 else "ERR_5005"
    return Failure(code=code, message=f"Docker could not make the worker: {words}")


def pull_failed(words: str, *, image: str) -> Failure:
    """The registry or the way to it refused an image; ``words`` are its own.

    "pull access denied … or may require docker login" stays ERR_3001: a registry says so of every image that
    is not there.
    """
    text = words.lower()
    if _has(text, _LIMITED):
        code, advice = "ERR_5003", "wait, or log in to the registry with docker login"
    elif "access denied" not in text and _has(text, _AUTH):
        code, advice = "ERR_3004", "log in on the Docker host with docker login"
    elif _has(text, _NETWORK):
        code, advice = "ERR_3003", "check that the Docker host reaches the registry"
    elif _has(text, _FULL):
        code, advice = "ERR_3002", "free space on the Docker host, for example with docker image prune"
    else:
        code, advice = "ERR_3001", "check the image's name and whether its registry wants a login"
    return Failure(code=code, message=f"The image {image} cannot be pulled: {words.rstrip('.')}; {advice}.")


def is_builtin(image: str) -> bool:
    """Whether the name is that of our own worker image, which is built, and in no registry.

    It is never looked for in one: whoever registered that name there would get to run the workers.
    """
    return image.partition("@")[0].partition(":")[0] == BUILTIN_IMAGE


def missing(image: str) -> Failure:
    """The image is not on the host."""
    if is_builtin(image):
        return not_built(image)
    return Failure(
        code="ERR_3001", message=f"The image {image} is not on the Docker host yet; it is going to be pulled."
    )


def not_built(image: str) -> Failure:
    command = BUILD_COMMAND.format(image=image)
    return Failure(
        code="ERR_3001",
        message=f"The worker image {image} is not on the Docker host; build it there: {command}",
    )


def unreachable(words: str, address: str) -> Failure:
    """Nothing answers at Docker's address; ``words`` are the system's."""
    text = words.lower()
    if "permission denied" in text:
        advice = "this user may not use it: add the user to the group docker, or set DOCKER_HOST"
    elif "no such file" in text or "filenotfound" in text:
        advice = "there is no such socket: start Docker, or set DOCKER_HOST"
    else:
        advice = "start Docker, or set DOCKER_HOST"
    return Failure(code="ERR_5001", message=f"Docker cannot be reached at {address}; {advice}.")


def silent(address: str, timeout_s: float) -> Failure:
    """Docker took the connection and said nothing."""
    return Failure(
        code="ERR_5006",
        message=f"Docker at {address} did not answer within {timeout_s:g} s; "
        "look at it with docker info, or restart it.",
    )


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)
