"""A model provider that answers by script, in OpenAI's formats, over real HTTP. For tests and `standfast chaos`.

    with FakeProvider({"SUP-7": [Calls("describe_table", table="orders"), Answers(Plan(...))]}) as provider:
        ...  # OPENAI_BASE_URL=provider.url, model openai:any
    assert provider.asked["SUP-7"] == 2

The n-th request whose text contains a key gets the key's n-th answer; the last one repeats. Both of OpenAI's APIs are
spoken, `/responses` (pydantic-ai's `openai:`) and `/chat/completions` (`openai-chat:`, `ollama:` and most others).
"""

import hashlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel


class Calls:
    """The model calls a tool."""

    def __init__(self, tool: str, **arguments: Any) -> None:
        self.tool = tool
        self.arguments = arguments


@dataclass(frozen=True)
class Answers:
    """The model gives its final answer, by the output tool that is named after the answer's type."""

    value: BaseModel


@dataclass(frozen=True)
class Says:
    """The model writes text instead of calling a tool."""

    text: str


@dataclass(frozen=True)
class Raw:
    """The provider sends this status and body, whatever they are."""

    status: int
    body: str = "{}"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """The connection breaks in the middle of the answer."""


@dataclass(frozen=True)
class Waits:
    """The provider sets `asked` when the request arrives, and answers once `until` is set."""

    asked: threading.Event
    until: threading.Event
    then: "Answer"


@dataclass(frozen=True)
class Thinks:
    """The provider answers after this many seconds."""

    seconds: float
    then: "Answer"


Answer = Calls | Answers | Says | Raw | Cut | Waits | Thinks
Turn = Answer | Sequence[Calls]
"""One answer of the model; a sequence of calls is made in parallel."""


@dataclass(kw_only=True)
class Exchange:
    """One request, and what became of it."""

    at: datetime
    """When it had arrived."""
    digest: str
    """SHA-256 of its body: the same for every attempt of the same call."""
    answer_id: str | None = None
    """Id of the model's answer, unique; None unless all of it was sent, which is when a provider charges for it."""


class FakeProvider:
    """Serves a script on a free port of 127.0.0.1 between `__enter__` and `__exit__`."""

    def __init__(self, script: MutableMapping[str, Sequence[Turn]]) -> None:
        self.script = script
        """May grow while the provider serves."""
        self.asked: Counter[str] = Counter()
        """How many requests came for each key of the script."""
        self.requests: list[dict[str, Any]] = []
        """The body of every request, oldest first."""
        self.exchanges: list[Exchange] = []
        """Every request with its fate, oldest first."""
        self.url = ""
        """The base URL, as OPENAI_BASE_URL takes it."""
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def received(self, text: str) -> Exchange:
        """Note a request, and return the note."""
        exchange = Exchange(at=datetime.now(UTC), digest=hashlib.sha256(text.encode()).hexdigest())
        self.exchanges.append(exchange)
        return exchange

    def new_id(self) -> str:
        """Return an id for an answer."""
        return f"fake-{next(self._numbers)}"

    def next_turn(self, text: str, request: dict[str, Any]) -> Turn:
        """Return the answer to a request with this text."""
        with self._lock:
            self.requests.append(request)
            for key, turns in self.script.items():
                if key in text:
                    number = self.asked[key]
                    self.asked[key] += 1
                    return turns[min(number, len(turns) - 1)]
        return Raw(404, json.dumps({"error": {"message": "no key of the fake provider's script is in the request"}}))


class _Handler(BaseHTTPRequestHandler):
    provider: FakeProvider
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Serve a connection until it ends; a worker that is killed resets it."""
        with suppress(ConnectionResetError):
            super().handle()

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        exchange = self.provider.received(text)
        request = json.loads(text)
        turn = self.provider.next_turn(text, request)
        while isinstance(turn, Waits | Thinks):
            _wait(turn)
            turn = turn.then
        match turn:
            case Raw():
                self._send(turn.status, turn.body, turn.headers)
            case Cut():
                self._send(200, '{"id": "', {"Content-Length": "1000"})
                self.close_connection = True
            case Says():
                self._answer(exchange, request, turn.text)
            case Calls() | Answers():
                self._answer(exchange, request, None, _call(turn, request))
            case _:
                self._answer(exchange, request, None, *(_call(call, request) for call in turn))

    def _answer(self, exchange: Exchange, request: dict[str, Any], text: str | None, *calls: "Call") -> None:
        message = _message(self.path, request, text, calls)
        answer_id = self.provider.new_id()
        if self._send(200, json.dumps(message | {"id": answer_id})):
            exchange.answer_id = answer_id

    def _send(self, status: int, body: str, headers: Mapping[str, str] | None = None) -> bool:
        """Return whether all of it was sent."""
        content = body.encode()
        try:
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(content)),
                **(headers or {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the worker was killed while it waited
            return False
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


def _wait(turn: Waits | Thinks) -> None:
    if isinstance(turn, Thinks):
        time.sleep(turn.seconds)
    else:
        turn.asked.set()
        turn.until.wait()


Call = tuple[str, str]
"""A tool's name and its arguments as JSON."""


def _call(turn: Calls | Answers, request: dict[str, Any]) -> Call:
    if isinstance(turn, Calls):
        return turn.tool, json.dumps(turn.arguments)
    return _output_tool(request, type(turn.value).__name__), turn.value.model_dump_json()


def _output_tool(request: dict[str, Any], answer: str) -> str:
    """Return pydantic-ai's name of the output tool: with a suffix if the agent has several types of answers."""
    names = [tool.get("name") or tool["function"]["name"] for tool in request.get("tools", [])]
    exact = f"final_result_{answer}"
    return exact if exact in names else "final_result"


def _message(path: str, request: dict[str, Any], text: str | None, calls: Sequence[Call]) -> dict[str, Any]:
    number = len(request.get("messages") or request.get("input") or ())
    named = [(f"call_{number}_{index}", name, arguments) for index, (name, arguments) in enumerate(calls)]
    shape = _responses if path.endswith("/responses") else _chat
    return {"model": request["model"], **shape(text, named)}


def _chat(text: str | None, calls: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    tool_calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id_, name, arguments in calls
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": tool_calls} if calls else {})}
    return {
        "object": "chat.completion",
        "created": 0,
        "choices": [{"index": 0, "finish_reason": "tool_calls" if calls else "stop", "message": message}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _responses(text: str | None, calls: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    output: list[dict[str, Any]] = [
        {"type": "function_call", "id": f"fc_{id_}", "call_id": id_, "name": name, "arguments": arguments}
        for id_, name, arguments in calls
    ]
    if text is not None:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        output.append(
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        )
    return {
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 15,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
