"""The model on this machine as a pydantic-ai model. It is too small to write SQL, so it chooses a playbook.

It completes a text of solved examples, the most similar ones last, and a grammar constrains its answer: JSON that names
a playbook whose arguments are said in the ticket, with these very values, or `none`. (A JSON schema would let it put
white space where the examples have none, and it does so without end.) Its choice is checked and rehearsed like every
other plan.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from pydantic import JsonValue, ValidationError
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    StructuredContent,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from standfast.errors import InvalidInput
from standfast.planner.playbooks import NONE, Argument, ArgumentType, Playbook, PlaybookChoice
from standfast.planner.prompt import FEEDBACK, TICKET

NAME = "gemma-3-270m"
_EXAMPLES = 6  # measured on 32 tickets: 29 right, 27 with 3 of them, no more with 8, which takes longer
_MAX_CHARACTERS = 2000  # of a ticket; a longer one is beyond this model
_MAX_TOKENS = 160
_MAX_PHRASE = 8  # words of an argument that is free text
_TASK = "Choose the playbook for each ticket and fill its arguments.\n"
_FOUND_IN_TEXT = {
    ArgumentType.INTEGER: re.compile(r"(?<![\w.])\d+(?![\w]|\.\d)"),
    ArgumentType.MONEY: re.compile(r"(?<![\w.])\d+(?:\.\d{1,2})?(?![\w]|\.\d)"),
    ArgumentType.EMAIL: re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    ArgumentType.DATE: re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)"),
}


@dataclass(frozen=True)
class _Shot:
    """A solved example."""

    ticket: str
    playbook: str
    arguments: Mapping[str, JsonValue]

    def __str__(self) -> str:
        return f"Ticket: {self.ticket}\nJSON: {_choice(self.playbook, self.arguments)}\n"


class LocalModel(Model):
    """Chooses a playbook by few-shot completion."""

    def __init__(self, url: str, playbooks: Sequence[Playbook]) -> None:
        """Talk to the server at `url`, see standfast.local.model_server.

        Raises:
            InvalidInput: there are no playbooks to choose from.
        """
        super().__init__()
        if not playbooks:
            raise InvalidInput(
                "planner.model = 'local' chooses playbooks, but planner.playbooks names no folder with any"
            )
        self._url = url
        self._playbooks = tuple(playbooks)
        self._shots = [_Shot(e.ticket, p.name, e.arguments) for p in playbooks for e in p.examples]
        self._weights = _weights(shot.ticket for shot in self._shots)

    @property
    def model_name(self) -> str:
        """See the base class."""
        return NAME

    @property
    def system(self) -> str:
        """See the base class."""
        return "local"

    @property
    def base_url(self) -> str:
        """See the base class."""
        return self._url

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer with a choice of a playbook; with `none` if it was asked before, for it has no second opinion."""
        tool = _choice_tool(model_request_parameters)
        ticket = _ticket(messages)
        text = _text(ticket)
        usage = RequestUsage()
        choice = PlaybookChoice(playbook=NONE)
        if len(text) <= _MAX_CHARACTERS and not any(isinstance(message, ModelResponse) for message in messages):
            choice, usage = await self._complete(text, ticket.get("subject", {}), model_settings)
        call = ToolCallPart(tool_name=tool, args=choice.model_dump(mode="json"))
        return ModelResponse(parts=[call], model_name=NAME, provider_name=self.system, usage=usage)

    async def _complete(
        self, text: str, subject: Mapping[str, JsonValue], settings: ModelSettings | None
    ) -> tuple[PlaybookChoice, RequestUsage]:
        shots = self._similar(text)
        likely = {shot.playbook for shot in shots}
        possible = [_answers(p, text, subject) for p in self._playbooks if p.name in likely and p.name != NONE]
        nothing = _literal(_choice(NONE, {}))
        grammar = f"root ::= {_literal(' ')} ({' | '.join([*filter(None, possible), nothing])})"
        timeout = (settings or {}).get("timeout")
        try:
            async with openai.AsyncOpenAI(base_url=self._url, api_key="none", max_retries=0) as client:
                completion = await client.completions.create(
                    model=NAME,
                    prompt=f"{_TASK}{''.join(map(str, shots))}Ticket: {text}\nJSON:",
                    temperature=0,
                    max_tokens=_MAX_TOKENS,
                    timeout=timeout if isinstance(timeout, int | float) else openai.not_given,
                    extra_body={"grammar": grammar},
                )
        except openai.APIStatusError as error:
            raise ModelHTTPError(status_code=error.status_code, model_name=NAME, body=error.body) from error
        except openai.APIError as error:
            raise ModelAPIError(model_name=NAME, message=str(error)) from error
        used = completion.usage
        usage = (
            RequestUsage(input_tokens=used.prompt_tokens, output_tokens=used.completion_tokens)
            if used
            else RequestUsage()
        )
        return _parsed(completion.choices[0].text), usage

    def _similar(self, text: str) -> list[_Shot]:
        """Return the examples that share the most telling words with the ticket, the best last."""
        words = _words(text)
        return sorted(self._shots, key=lambda shot: _similarity(words, _words(shot.ticket), self._weights))[-_EXAMPLES:]


def _choice_tool(parameters: ModelRequestParameters) -> str:
    for tool in parameters.output_tools:
        if "playbook" in tool.parameters_json_schema.get("properties", {}):
            return tool.name
    raise InvalidInput("planner.model = 'local' can't serve this agent: it asks for something else than a playbook")


def _ticket(messages: Sequence[ModelMessage]) -> dict[str, Any]:
    contents = [
        content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart) and not isinstance(part.content, str)
        for content in part.content
        if isinstance(content, StructuredContent)
    ]
    found = {content.tag: content.value for content in contents}
    return {**found[TICKET], "feedback": found.get(FEEDBACK, ())}


def _text(ticket: Mapping[str, Any]) -> str:
    """Return what the ticket says on one line: a line break would end the example."""
    return " ".join(" ".join([ticket["body"], *ticket["feedback"]]).split())


def _answers(playbook: Playbook, text: str, subject: Mapping[str, JsonValue]) -> str | None:
    """Return the grammar of a playbook's choice, None if the ticket doesn't say all of its arguments."""
    said = {argument.name: _said(argument, text, subject) for argument in playbook.arguments}
    if not all(said.values()):
        return None
    arguments = ' ", " '.join(f"{_literal(_json(name))} {_literal(': ')} ({values})" for name, values in said.items())
    opening = f'{{"playbook": {_json(playbook.name)}, "arguments": {{'
    return f"{_literal(opening)} {arguments} {_literal('}}')}"


def _said(argument: Argument, text: str, subject: Mapping[str, JsonValue]) -> str:
    """Return the grammar of an argument's values, empty if the ticket says none."""
    said: Iterable[JsonValue]
    if argument.name in subject:
        said = [subject[argument.name]]
    elif argument.type is ArgumentType.CHOICE:
        said = argument.choices
    elif argument.type is ArgumentType.TEXT:
        said = _phrases(text)
    else:
        said = _FOUND_IN_TEXT[argument.type].findall(text)
    return " | ".join(dict.fromkeys(_literal(_form(argument, value)) for value in said if _fits(argument, value)))


def _phrases(text: str) -> Iterator[str]:
    words = text.split(" ")
    for start in range(len(words)):
        for end in range(start + 1, min(start + _MAX_PHRASE, len(words)) + 1):
            yield " ".join(words[start:end]).rstrip(".,;:!?")


def _fits(argument: Argument, value: JsonValue) -> bool:
    try:
        argument.accept(value)
    except ValueError:
        return False
    return True


def _form(argument: Argument, value: JsonValue) -> str:
    """Return the JSON text of a value, as the examples have it: numbers bare, all else quoted."""
    number = argument.type in (ArgumentType.INTEGER, ArgumentType.MONEY)
    return str(value) if number else _json(value)


def _literal(text: str) -> str:
    """Return `text` as a terminal of llama.cpp's grammars, whose quoting is JSON's."""
    return _json(text)


def _choice(playbook: str, arguments: Mapping[str, JsonValue]) -> str:
    return _json({"playbook": playbook, "arguments": dict(arguments)})


def _parsed(text: str) -> PlaybookChoice:
    try:
        return PlaybookChoice.model_validate_json(text)
    except ValidationError as error:
        raise UnexpectedModelBehavior(f"the local model answered {text!r:.200}") from error


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W\d_]+", text.lower()))


def _weights(texts: Iterable[str]) -> dict[str, float]:
    """Return how telling each word is: the fewer examples have it, the more (inverse document frequency)."""
    documents = [set(_words(text)) for text in texts]
    count = Counter(word for document in documents for word in document)
    return {word: math.log(1 + len(documents) / n) for word, n in count.items()}


def _similarity(words: Counter[str], others: Counter[str], weights: Mapping[str, float]) -> float:
    shared = sum(weights[word] for word in others if word in words)
    return shared / math.sqrt(sum(weights[word] for word in others) or 1)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
