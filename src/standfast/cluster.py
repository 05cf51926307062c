"""The connection to Temporal: address, payload converter, keep-alive. Every process of ours uses this one."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeNamespaceResponse
from temporalio.client import Client, HeaderCodecBehavior, KeepAliveConfig, Plugin
from temporalio.converter import ExternalStorage
from temporalio.envconfig import ClientConfig
from temporalio.service import GrpcCompression

from standfast.codec.converter import data_converter
from standfast.errors import InvalidInput, ServiceUnavailable, first_line
from standfast.settings import Settings

_CONNECT = timedelta(seconds=5)
# A connection that was cut without a word is noticed soon instead of within half a minute. No sooner: a Temporal server
# closes connections that ping more often than every ten seconds (`frontend.keepAliveMinTime`), long polls included.
_KEEP_ALIVE = KeepAliveConfig(interval_millis=10_000, timeout_millis=1000)


async def connect(
    settings: Settings, storage: ExternalStorage | None = None, *, plugins: Sequence[Plugin] = ()
) -> Client:
    """Connect to Temporal as `temporal.toml`, `TEMPORAL_*` and then our own settings say.

    Without `storage` (see `standfast.storage.external`) large payloads can be neither sent nor read.

    Raises:
        InvalidInput: the Temporal client configuration or the address is wrong, or there is no key to encrypt with.
        ServiceUnavailable: nothing answers at the address.
    """
    config = _environment_configuration() if settings.temporal.environment_configuration else {}
    target = str(config.pop("target_host", settings.temporal.address))
    config.setdefault("namespace", settings.temporal.namespace)
    converter = data_converter(settings, storage)
    if settings.encryption.enabled:  # what is encrypted can't be compressed; both sides would try in vain
        config.setdefault("grpc_compression", GrpcCompression.NONE)
    try:
        return await Client.connect(
            target,
            data_converter=converter,
            header_codec_behavior=HeaderCodecBehavior.CODEC,
            keep_alive_config=_KEEP_ALIVE,
            connect_timeout=_CONNECT,
            plugins=plugins,
            **config,
        )
    except ValueError as error:
        advice = "expected HOST:PORT; set temporal.address or TEMPORAL_ADDRESS"
        raise InvalidInput(f"Temporal can't be reached at {target!r}: {error}; {advice}") from error
    except RuntimeError as error:
        raise ServiceUnavailable(
            f"Temporal at {target} can't be reached; is it running, or `standfast up`? {first_line(error)}"
        ) from error


def namespace(settings: Settings) -> str:
    """Return the namespace that `connect` would use.

    Raises:
        InvalidInput: the Temporal client configuration is wrong.
    """
    config = _environment_configuration() if settings.temporal.environment_configuration else {}
    return str(config.get("namespace", settings.temporal.namespace))


async def described(client: Client) -> DescribeNamespaceResponse:
    """Return what the server knows about a client's namespace.

    Raises:
        RPCError: there is no such namespace, or the server doesn't answer.
    """
    return await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))


async def retention(client: Client) -> timedelta:
    """Return for how long the server keeps a history after its end.

    Raises: as `described` does.
    """
    return (await described(client)).config.workflow_execution_retention_ttl.ToTimedelta()


def _environment_configuration() -> dict[str, Any]:
    try:
        return dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError, OSError) as error:
        raise InvalidInput(f"Temporal's client configuration can't be read: {first_line(error)}") from None
