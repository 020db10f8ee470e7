"""Configurations that people send: checked by their adapter's own model, and shown without what may be secret."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hodei.errors import InvalidInput
from hodei.providers.configurations import CONFIGURABLE, DEEPEST, HIDDEN, check_config, model_of, shown
from hodei.providers.registry import PROVIDER_TYPES


def test_every_type_of_provider_has_a_model() -> None:
    assert set(CONFIGURABLE) == set(PROVIDER_TYPES) - {"fake"}
    for kind in PROVIDER_TYPES:
        check_config(kind, {})
        assert model_of(kind).model_fields


def test_checking_one_imports_no_client() -> None:
    code = (
        "import sys; from hodei.providers.configurations import check_config\n"
        "for kind in ('docker', 'kubernetes', 'process'): check_config(kind, {})\n"
        "print([name for name in ('docker', 'kubernetes', 'requests', 'urllib3') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("kind", "document", "field"),
    [
        ("docker", {"pidslimit": 1}, "config.pidslimit"),
        ("docker", {"mounts": [{"source": "/a", "target": "/b", "x": 1}]}, "config.mounts.0.x"),
        ("docker", {"memory_default": "much"}, "config.memory_default"),
        ("kubernetes", {"pod_template": {"spec": "x"}}, "config"),
        ("process", {"cgroups": "perhaps"}, "config.cgroups"),
    ],
)
def test_a_mistake_names_its_key_and_not_its_value(kind: str, document: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_config(kind, document)

    assert refused.value.field == field
    assert refused.value.message.startswith(field)
    assert "much" not in refused.value.message


@pytest.mark.parametrize("value", ["a\0", {"\0": 1}, "\ud800", float("nan"), float("inf"), 2**63, [["\0"]]])
def test_what_postgres_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        check_config("kubernetes", {"pod_template": {"metadata": {"annotations": {"a": value}}}})


def test_depth_has_a_bound() -> None:
    deep: Any = 1
    for _ in range(DEEPEST):
        deep = {"a": deep}

    with pytest.raises(InvalidInput, match="deeper"):
        check_config("kubernetes", {"pod_template": deep})


def test_what_may_be_secret_is_hidden_and_the_rest_is_shown() -> None:
    document = {
        "docker_host": "tcp://user:word@10.0.0.1:2376",
        "api_key": "word",
        "authToken": 7,
        "labels": {"team": "data", "db-password": "word"},
        "image_pull_secrets": ["registry"],
        "cgroups": True,
        "pod_template": {
            "spec": {
                "containers": [
                    {
                        "name": "worker",
                        "env": [
                            {"name": "HTTP_PROXY", "value": "word"},
                            {"name": "REF", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                        ],
                        "args": ["--proxy=https://user:word@proxy/x", 3, None],
                    }
                ],
                "volumes": [{"secret": {"secretName": "s"}}],
            }
        },
    }

    out = shown(document)

    assert "word" not in str(out).replace("db-password", "")
    assert out["docker_host"] == f"tcp://{HIDDEN}@10.0.0.1:2376"
    assert out["labels"] == {"team": "data", "db-password": HIDDEN}
    assert (out["image_pull_secrets"], out["cgroups"]) == (["registry"], True)
    container = out["pod_template"]["spec"]["containers"][0]
    assert container["env"][0] == {"name": "HTTP_PROXY", "value": HIDDEN}
    assert container["env"][1]["valueFrom"]["secretKeyRef"] == {"name": "s", "key": "k"}
    assert container["args"] == [f"--proxy=https://{HIDDEN}@proxy/x", 3, None]
    assert document["api_key"] == "word"
