"""``/swagger-ui``: the description as a page, from an installed wheel; nothing is loaded from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, send_from_directory

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Hodei Jobs: API</title>
<link rel="icon" href="/swagger-ui/images/swagger.svg">
<link rel="stylesheet" href="/swagger-ui/css/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/swagger-ui/js/swagger-ui-bundle.js"></script>
<script src="/swagger-ui/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""

pages = Blueprint("swagger", __name__)


@pages.get("/swagger-ui")
@pages.get("/swagger-ui/")
def page() -> Response:
    return Response(
        _PAGE, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY}
    )


@pages.get("/swagger-ui/start.js")
def start() -> Response:
    return Response(_START, content_type="text/javascript; charset=utf-8")


@pages.get("/swagger-ui/<path:name>")
def asset(name: str) -> Response:
    return send_from_directory(_folder(), name)


def _folder() -> Path:
    return Path(str(files("flask_openapi3_swagger"))) / "templates" / "swagger"
