"""The settings of this process, read once: layers of files and the environment.

Weakest first: `$STANDFAST_HOME/local.toml` (written by `standfast up`), `standfast.toml` in the working directory,
environment variables `STANDFAST_*` (`STANDFAST_TARGETS__SHOP__WRITER`). An explicit file replaces the first two, so
that a worker process sees the credentials of its own pool only.
"""

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from standfast.errors import InvalidInput
from standfast.settings import NESTED, PREFIX, Settings

_OF_NO_VALUE = frozenset({"extra_forbidden", "model_type", "model_attributes_type", "dict_type"})
"""Errors about a name that no setting has, or where settings of their own belong: any secret may stand there."""
_COMMAND = "command"
"""Its arguments may be credentials for a secret manager."""


def home_folder() -> Path:
    """Return the folder of the embedded services, `$STANDFAST_HOME` or `.standfast`."""
    return Path(os.environ.get("STANDFAST_HOME") or ".standfast")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        InvalidInput: it is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: can't be read: {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path}: not valid TOML: {error}") from error


def load_settings(config: Path | None = None, *, local: bool = True) -> Settings:
    """Return the settings of this process; see the module's docstring for the layers.

    Without `local` the file that `standfast up` wrote is left out: what remains is what people chose.

    Raises:
        InvalidInput: a file is unreadable, or a key is unknown or has a wrong value.
    """
    _check_variables()
    explicit = config or (Path(named) if (named := os.environ.get("STANDFAST_CONFIG")) else None)
    layers = [home_folder() / "local.toml"] * local + [Path("standfast.toml")]
    files = [explicit] if explicit else layers
    merged: dict[str, Any] = {}
    for file in files:
        if explicit or _exists(file):
            merged = _deep_merge(merged, read_toml(file))
    origin = " and ".join(str(f) for f in files)
    if "home" in merged:
        raise InvalidInput(f"settings ({origin}): home: can't be set in a file; set the variable STANDFAST_HOME")
    try:
        return Settings(**merged)
    except ValidationError as error:
        problems = "; ".join(map(_told, error.errors()))
        raise InvalidInput(f"settings ({origin} or the environment): {problems}") from None
    except SettingsError as error:
        raise InvalidInput(f"settings (the environment): {_unread(error)}") from None


def _check_variables() -> None:
    """Return if the environment names no section of settings that there is not.

    Other variables may begin with our name, too: Kubernetes makes some for a service that is called so.

    Raises:
        InvalidInput: naming the variables.
    """
    ours = [name for name in os.environ if name.upper().startswith(PREFIX) and NESTED in name]
    unknown = [name for name in ours if name[len(PREFIX) :].lower().split(NESTED)[0] not in Settings.model_fields]
    if unknown:
        raise InvalidInput(f"settings (the environment): {', '.join(sorted(unknown))}: no such setting")


def _exists(file: Path) -> bool:
    """Tell whether a file is there.

    Raises:
        InvalidInput: nobody can tell, since its folder is somebody else's, for instance.
    """
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InvalidInput(f"{file}: can't be read: {error.strerror}") from error
    return True


def _unread(error: SettingsError) -> str:
    """Return which variable is not the JSON that its setting has to be; its value may hold a secret."""
    cause = error.__cause__
    if not isinstance(cause, json.JSONDecodeError):
        return str(error)
    named = sorted(n for n, value in os.environ.items() if n.upper().startswith(PREFIX) and value == cause.doc)
    return f"{' or '.join(named)}: expected JSON, as this setting has several values: {cause}"


def _told(error: ErrorDetails) -> str:
    """Return what is wrong with a setting, with its value unless that is or may hold a secret, such as a URL's."""
    value, message = repr(error["input"]), error["msg"]
    place = ".".join(map(str, error["loc"]))
    secret = error["type"] in _OF_NO_VALUE or not _SECRETS.isdisjoint(map(str, error["loc"]))
    if secret or isinstance(error["input"], dict) or "@" in value or "://" in value:
        return f"{place}: {message.replace(value, 'the value') if '@' in value else message}"
    return f"{place}: {message}, got {value}"


def _deep_merge(weak: dict[str, Any], strong: dict[str, Any]) -> dict[str, Any]:
    merged = dict(weak)
    for key, value in strong.items():
        old = merged.get(key)
        merged[key] = _deep_merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _secrets(kind: type[BaseModel]) -> Iterator[str]:
    """Yield the names of the settings that hold secrets, however deep in the sections."""
    for name, field in kind.model_fields.items():
        for part in _parts(field.annotation):
            if part is SecretStr:
                yield name
            elif isinstance(part, type) and issubclass(part, BaseModel):
                yield from _secrets(part)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


_SECRETS = frozenset({_COMMAND, *_secrets(Settings)})
