"""The official `openai` SDK against a gateway that `tests/gateway/sdk.rs` starts, with a scripted upstream behind it.

Models are named for what their upstream does. Every client counts the requests that it sends, so retries are seen.
"""

import os

import openai
import pytest
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "hi"}]
TEXT = "Hello from the other side"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Person(BaseModel):
    name: str
    age: int


class Counted(openai.OpenAI):
    """A client that counts its requests on the wire."""

    def __init__(self, key=None, **options):
        self.sent = 0
        super().__init__(
            base_url=os.environ["TURNPIKE_BASE_URL"],
            api_key=key or os.environ["TURNPIKE_API_KEY"],
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self.count]}),
            timeout=30,
            **options,
        )

    def count(self, _request):
        self.sent += 1

    def ask(self, model, **options):
        return self.chat.completions.create(model=model, messages=HELLO, **options)


@pytest.fixture
def client():
    with Counted() as client:
        yield client


def test_plain(client):
    answer = client.ask("good")
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 16


def test_headers_of_the_decision(client):
    raw = client.chat.completions.with_raw_response.create(model="good", messages=HELLO)
    assert raw.headers["x-turnpike-model"] == "good"
    assert raw.headers["x-turnpike-cost-usd"] == "0.000062"
    assert raw.parse().choices[0].message.content == TEXT


def test_stream(client):
    chunks = list(client.ask("good", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert all(chunk.usage is None for chunk in chunks)


def test_stream_with_usage(client):
    *_, last = client.ask("good", stream=True, stream_options={"include_usage": True})
    assert last.usage.completion_tokens == 5
    assert last.usage.cost == pytest.approx(0.000062)


def test_stream_helper(client):
    with client.chat.completions.stream(model="good", messages=HELLO) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == TEXT


def test_async_stream():
    import asyncio

    async def run():
        async with openai.AsyncOpenAI(
            base_url=os.environ["TURNPIKE_BASE_URL"], api_key=os.environ["TURNPIKE_API_KEY"]
        ) as client:
            stream = await client.chat.completions.create(model="good", messages=HELLO, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(run()) == TEXT


def test_tools(client):
    call = client.ask("tools", tools=[TOOL]).choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo","unit":"c"}')


def test_tools_in_a_stream(client):
    with client.chat.completions.stream(model="tools", messages=HELLO, tools=[TOOL]) as stream:
        for _ in stream:
            pass
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert call.function.parsed_arguments == {"city": "Oslo", "unit": "c"}


def test_a_conversation_with_tool_results(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12 degrees"},
    ]
    answer = client.chat.completions.create(model="good", messages=messages, tools=[TOOL])
    assert answer.choices[0].message.content == TEXT


def test_structured_output(client):
    answer = client.chat.completions.parse(model="json", messages=HELLO, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)


@pytest.mark.parametrize("stream", [False, True])
def test_a_read_timeout_is_kept_from_the_other_side(client, stream):
    # The SDK tells its limit; it hears that it has passed, and does not ask again what it would give up on again.
    with pytest.raises(openai.InternalServerError) as raised:
        client.ask("silent", stream=stream, timeout=2)
    assert (raised.value.status_code, raised.value.code) == (504, "deadline_exceeded")
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert client.sent == 1


def test_a_read_timeout_is_no_limit_on_a_stream_that_flows(client):
    assert len(list(client.ask("long", stream=True, timeout=2))) > 3_000


def test_abort_midway(client):
    stream = client.ask("endless", stream=True)
    seen = [next(stream) for _ in range(3)]
    assert seen[-1].choices[0].delta.content == "word "
    # The Rust side waits until the upstream has seen this.
    stream.close()


def test_models(client):
    names = {model.id for model in client.models.list()}
    assert {"good", "tools", "json"} <= names
    assert client.models.retrieve("good").id == "good"


ERRORS = [
    (openai.AuthenticationError, 401, "invalid_api_key", {"key": "sk-nobody"}, "good", {}),
    (openai.PermissionDeniedError, 403, "model_not_allowed", {"key": "sk-fenced"}, "tools", {}),
    (openai.NotFoundError, 404, "model_not_found", {}, "goood", {}),
    (openai.BadRequestError, 400, "invalid_request", {}, "good", {"extra_body": {"messages": "hi"}}),
    (openai.BadRequestError, 400, "invalid_value", {}, "strict", {}),
    (openai.APIStatusError, 402, "budget_exceeded", {"key": "sk-poor"}, "good", {}),
    (openai.InternalServerError, 502, "upstream_error", {}, "broken", {}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "status", "code", "who", "model", "options"), ERRORS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_errors_are_raised_at_once(kind, status, code, who, model, options, stream):
    with Counted(max_retries=2, **who) as client:
        with pytest.raises(kind) as raised:
            client.ask(model, stream=stream, **options)
        assert (raised.value.status_code, raised.value.code) == (status, code)
        assert raised.value.response.headers["x-should-retry"] == "false"
        assert raised.value.request_id
        assert client.sent == 1


def test_what_may_pass_is_retried_as_told():
    with Counted(max_retries=1) as client:
        with pytest.raises(openai.InternalServerError) as raised:
            client.ask("off-model")
        headers = raised.value.response.headers
        assert (raised.value.status_code, raised.value.code) == (503, "no_candidate")
        assert 0 < int(headers["retry-after"]) <= 60
        assert client.sent == (1 if headers["x-should-retry"] == "false" else 2)


def test_a_limit_is_retried_when_told():
    with Counted(key="sk-brisk", max_retries=1) as client:
        with client.ask("endless", stream=True) as stream:
            next(stream)
            with pytest.raises(openai.RateLimitError) as raised:
                client.ask("good")
        assert raised.value.code == "rate_limit_exceeded"
        assert client.sent == 3
        assert raised.value.response.headers["retry-after"] == "1"


def test_a_request_beyond_its_limit_is_not_retried():
    with Counted(key="sk-rare", max_retries=2) as client:
        with pytest.raises(openai.RateLimitError) as raised:
            client.ask("good")
        assert client.sent == 1
        assert raised.value.response.headers["x-ratelimit-limit-tokens"] == "5"


def test_an_unknown_endpoint_is_refused(client):
    with pytest.raises(openai.NotFoundError) as raised:
        client.audio.speech.create(model="good", voice="alloy", input="hi")
    assert raised.value.code == "endpoint_not_supported"


def test_a_stream_that_breaks_raises(client):
    stream = client.ask("cut", stream=True)
    with pytest.raises(openai.APIError) as raised:
        for _ in stream:
            pass
    assert raised.value.code == "upstream_error"


def test_a_stream_that_outgrows_its_budget_raises():
    with Counted("sk-short", max_retries=2) as client:
        text = ""
        with pytest.raises(openai.APIError) as raised:
            for chunk in client.ask("long", stream=True):
                assert chunk.choices[0].finish_reason is None
                text += chunk.choices[0].delta.content or ""
        assert raised.value.code == "budget_exceeded"
        assert (raised.value.body["budget"], raised.value.body["limit"]) == ("month", "0.0065")
        assert text.startswith("word word ") and client.sent == 1
