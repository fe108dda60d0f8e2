"""The page at /docs: the OpenAPI description of the server, as plain HTML that loads nothing from elsewhere."""

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_CODE = re.compile("`([^`]+)`")


def reference_page(openapi: Mapping[str, Any]) -> str:
    """Return an OpenAPI description as a page: every path, what may be sent to it and what it answers."""
    return "\n".join(_lines(openapi))


def _lines(openapi: Mapping[str, Any]) -> Iterator[str]:
    schemas = openapi["components"]["schemas"]
    title = escape(openapi["info"]["title"])
    yield "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
    yield "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    yield f"<title>{title}: HTTP API</title><link rel='icon' href='/icon.svg'><link rel='stylesheet' href='/page.css'>"
    yield "</head><body><main class='reference'>"
    yield f"<h1>{title} {escape(openapi['info']['version'])}: HTTP API</h1>"
    yield "<p>For programs the same is at <a href='/openapi.json'>/openapi.json</a>; the page for people is "
    yield "<a href='/'>here</a>.</p>"
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield _text(operation["description"])
            for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                yield f"<h3>Send <code>{escape(kind)}</code></h3>"
                yield from _fields(_resolved(body["schema"], schemas), schemas)
            yield "<h3>Answers</h3><dl>"
            for status, response in operation["responses"].items():
                kinds = [
                    f" <code>{escape(kind)}</code>{_reference(body.get('schema', {}))}"
                    for kind, body in response.get("content", {}).items()
                ]
                yield f"<dt>{escape(status)}{''.join(kinds)}</dt><dd>{escape(response['description'])}</dd>"
            yield "</dl></section>"
    yield "<section><h2>What is in the answers</h2>"
    for name, schema in schemas.items():
        if not name.startswith(("Body_", "HTTPValidation", "Validation")):
            yield f"<h3 id='{escape(name)}'>{escape(name)}</h3>{_text(schema.get('description', ''))}"
            yield from _fields(schema, schemas)
    yield "</section></main></body></html>"


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    yield "<dl>"
    for name, field in schema.get("properties", {}).items():
        needed = ", needed" if name in required else ""
        default = f", by default {field['default']!r}".lower() if field.get("default") is not None else ""
        yield f"<dt><code>{escape(name)}</code>: {_kind(field)}{needed}{escape(default)}</dt>"
        yield f"<dd>{escape(field.get('description', ''))}</dd>"
    yield "</dl>"


def _text(markdown: str) -> str:
    marked = _CODE.sub(r"<code>\1</code>", escape(markdown))
    return "".join(f"<p>{paragraph}</p>" for paragraph in marked.split("\n\n"))


def _kind(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"] if each.get("type") != "null")
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    if "contentMediaType" in field or field.get("format") == "binary":
        return "file"
    return _reference(field).removeprefix(": ") or escape(str(field.get("type", "object")))


def _reference(schema: Mapping[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f": <a href='#{escape(name)}'>{escape(name)}</a>" if name else ""


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return schemas[name] if name else schema
