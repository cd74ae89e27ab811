"""The page that shows the endpoint for programs; made from its OpenAPI description, it loads nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1b2426;
  background: #fff }
h1, h2 { line-height: 1.2 }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: #eef3f3; border-radius: 4px }
code { padding: .1em .3em } pre { padding: .8rem; overflow-x: auto }
table { border-collapse: collapse; width: 100%; margin-bottom: 1.2rem }
th, td { text-align: left; padding: .4rem .6rem; vertical-align: top;
  border-bottom: 1px solid #d5dede }
@media (prefers-color-scheme: dark) { body { color: #dfe8e8; background: #141b1c } code, pre { background: #222d2e }
  th, td { border-color: #34423f } a { color: #6fd9c6 } }
"""


def add_to(app: FastAPI) -> None:
    """Adds /api/v1/docs."""

    @app.get("/api/v1/docs", include_in_schema=False)
    async def show(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return HTMLResponse(_page(app.openapi(), f"{str(request.base_url).rstrip('/')}", root))


def _page(description: dict[str, Any], address: str, root: str) -> str:
    info = description["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['summary'])}</p>",
        f"<pre>curl -F photo=@me.jpg {escape(address)}/api/v1/faces -o face.glb</pre>",
    ]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation, description["components"]["schemas"]))
    parts.append(f"<p>For programs: <a href='{escape(root)}/api/v1/openapi.json'>openapi.json</a></p></html>")
    return "\n".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = [_row(one["name"], one["schema"], one["required"]) for one in operation.get("parameters", ())]
    for media in operation.get("requestBody", {}).get("content", {}).values():
        schema = schemas[media["schema"]["$ref"].rpartition("/")[2]]
        required = schema.get("required", ())
        rows += [_row(name, field, name in required) for name, field in schema["properties"].items()]
    answers = [
        f"<tr><td>{escape(status)}<td>{escape(answer['description'])}<td>{escape(', '.join(answer.get('content', ())))}"
        for status, answer in operation["responses"].items()
    ]
    fields = "<table><tr><th>field<th>values<th>default<th>" + "".join(rows) + "</table>"
    return (
        f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(operation['summary'])}. "
        f"{escape(operation.get('description', ''))}</p>{fields}"
        f"<table><tr><th>status<th>answer<th>media type{''.join(answers)}</table>"
    )


def _row(name: str, schema: dict[str, Any], is_required: bool) -> str:
    choices = [schema, *schema.get("anyOf", ())]
    values = next((", ".join(one["enum"]) for one in choices if "enum" in one), None)
    if values is None and "maximum" in schema:
        values = f"{schema['minimum']:g} to {schema['maximum']:g}"
    values = values or ("file" if "contentMediaType" in schema else schema.get("type", ""))
    default = "required" if is_required else str(schema.get("default", ""))
    cells = (f"<code>{escape(name)}</code>", escape(values), escape(default), escape(schema.get("description", "")))
    return f"<tr><td>{'<td>'.join(cells)}"
