"""``/openapi.json`` of a service: what its routes say of themselves, with every model's schema."""

from __future__ import annotations

from typing import Any

from flask_openapi3 import Info, OpenAPI
from hodei_agent.protocol import PROTOCOL_VERSION
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import BaseConverter

from hodei import __version__
from hodei.api.listeners import AGENT_PREFIX
from hodei.api.routing import PREFIX, Routes
from hodei.api.schemas.common import Problem

_TITLES = {
    "orchestrator": "Hodei Jobs: orchestrator",
    "scheduler": "Hodei Jobs: scheduler",
    "worker-manager": "Hodei Jobs: worker manager",
}
_SCHEMES = {
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "What HODEI_API_TOKEN holds, when it is set.",
    },
    "worker": {"type": "http", "scheme": "bearer", "description": "A worker's own token."},
}
_PROTOCOL = {
    "name": "Hodei-Protocol",
    "in": "header",
    "description": "The version that the agent speaks; one newer than the server's is refused with 426.",
    "schema": {"type": "integer", "minimum": 1, "maximum": PROTOCOL_VERSION, "default": 1},
}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema: it may be left out, but a query or a header has no way to say null."""
    schema = {name: value for name, value in schema.items() if name != "title"}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        return kinds[0] | {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return schema


class PipelineConverter(BaseConverter):
    """Whatever is no address of its own beside the pipelines' is taken for an id."""

    regex = r"(?!schema$)[^/]+"


class DescribedApp(OpenAPI):
    """A Flask app whose description is made when it is first asked for."""

    def __init__(self, service: str, *, has_token: bool) -> None:
        super().__init__(
            f"hodei.api.{service}",
            info=Info(
                title=_TITLES[service], version=__version__, description=f"Its paths are under {PREFIX}."
            ),
            doc_ui=False,
            validation_error_model=Problem,
        )
        self.url_map.merge_slashes = False
        self.url_map.converters["pipeline"] = PipelineConverter
        self._has_token = has_token
        self._models: dict[type[BaseModel], str] = {}

    def add(self, routes: Routes) -> None:
        """Register a resource's routes."""
        self._models |= routes.models
        self.register_api(routes)

    def generate_spec_json(self) -> None:
        super().generate_spec_json()
        inputs: list[Any] = list(self._models.items())
        _, schemas = models_json_schema(inputs, ref_template="#/components/schemas/{model}")
        self.spec_json["components"] = {"schemas": schemas["$defs"], "securitySchemes": _SCHEMES}
        for path, item in self.spec_json["paths"].items():
            for operation in item.values():
                self._finish(path, operation)

    def _finish(self, path: str, operation: dict[str, Any]) -> None:
        if operation.get("security") == [{"operator": []}] and not self._has_token:
            operation["security"] = []
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
        if path.startswith(AGENT_PREFIX):
            operation.setdefault("parameters", []).append(_PROTOCOL)
