"""Templates to pages: everything printed is escaped, and made visible where it would be hidden."""

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from standfast.dashboard import text


class Renderer:
    """Renders the templates of this package. In attributes and text areas they use `|e`, see `text.printed`."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("standfast.dashboard"),
            autoescape=True,
            finalize=text.printed,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            moment=text.moment, json_value=text.json_value, parameter=text.parameter, visible=text.visible
        )
        self._environment.globals.update(age=text.age)

    def page(self, request: Request, template: str, *, status: int = 200, **content: Any) -> HTMLResponse:
        """Return the page that `template` makes of `content`; it also knows the `session`, None if there is none.

        And `now`, and `here`, the path that was asked for.
        """
        known = {
            "session": getattr(request.state, "session", None),
            "now": datetime.now(UTC),
            "here": request.scope["path"],
        }
        return HTMLResponse(self._environment.get_template(template).render(known | content), status_code=status)
