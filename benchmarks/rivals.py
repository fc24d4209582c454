"""What the relay is compared with, each in a process of its own: nginx as a plain proxy, and LiteLLM's proxy.

Both are fetched once into ``benchmarks/.cache``: nginx from Debian's packages (nothing is installed), LiteLLM from the
package registry into an environment of its own.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.measure import ROOT, CpuClock, tell
from tests.support.server import clean_environment, free_port

CACHE = ROOT / "benchmarks" / ".cache"
START_S = 120.0
KEY = "sk-benchmark"

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 64m; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream models {{ server 127.0.0.1:{upstream}; keepalive 128; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
LITELLM_MODEL = """
  - model_name: {name}
    litellm_params: {{model: openai/{name}, api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}
"""


class Absent(Exception):
    """It can't be had here. The text is one line that says why."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A running program that listens on ``port``."""

    name: str
    pid: int
    port: int
    clock: CpuClock
    version: str = ""


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    folder: Path,
    *,
    env: dict[str, str] | None = None,
    ready: str | None = None,
    version: str = "",
) -> Iterator[Process]:
    """The program runs and answers; it is killed at the end. *Takes* ``ready``, a path that answers 200 then."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        until = time.monotonic() + START_S
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() > until:
                raise Absent(f"{name} did not start: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.05)
        yield Process(name=name, pid=process.pid, port=port, clock=CpuClock(process.pid), version=version)
    finally:
        process.kill()
        process.wait()


def _answers(port: int, ready: str | None) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{ready or '/'}", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return ready is None
    except OSError:
        return ready is None and _listens(port)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[Process]:
    """The scripted model server."""
    port = free_port()
    with running("upstream", [sys.executable, "-m", "benchmarks.upstream", str(port)], port, folder) as process:
        yield process


@contextlib.contextmanager
def nginx(folder: Path, models: int) -> Iterator[Process]:
    """nginx before the model server. *Raises* Absent."""
    program = shutil.which("nginx") or _debian("nginx", "usr/sbin/nginx")
    home = folder / "nginx"
    home.mkdir()
    port = free_port()
    config = home / "nginx.conf"
    config.write_text(NGINX.format(folder=home, upstream=models, port=port))
    version = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr.strip()
    command = [program, "-p", str(home), "-c", str(config), "-e", str(home / "start.log")]
    with running("nginx", command, port, folder, version=version.rpartition(": ")[2]) as process:
        yield process


def _debian(package: str, program: str) -> str:
    """The program out of Debian's package, unpacked into the cache."""
    home = CACHE / package
    if not (home / program).exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise Absent(f"no {package} here, and no apt-get to fetch it")
        tell(f"fetching {package} from Debian")
        home.mkdir(parents=True, exist_ok=True)
        for command in (
            ["apt-get", "download", package],
            ["apt-get", "-q", "update"],
            ["apt-get", "download", package],
        ):
            subprocess.run(command, cwd=home, capture_output=True, check=False, timeout=300)
            if found := sorted(home.glob(f"{package}_*.deb")):
                subprocess.run(["dpkg", "-x", found[-1].name, "."], cwd=home, capture_output=True, check=False)
                break
    if not (home / program).exists():
        raise Absent(f"{package} can't be fetched")
    return str(home / program)


@contextlib.contextmanager
def litellm(folder: Path, models: int, names: Sequence[str]) -> Iterator[Process]:
    """LiteLLM's proxy in its leanest form: one worker, a master key, no database, no callbacks. *Raises* Absent."""
    home = CACHE / "litellm"
    program = home / "bin" / "litellm"
    if not (CACHE / "litellm.done").exists():
        tell("installing LiteLLM's proxy into an environment of its own: a minute or two")
        CACHE.mkdir(parents=True, exist_ok=True)
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [
                str(home / "bin" / "python"),
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "-q",
                "litellm[proxy]",
            ],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
            if done.returncode:
                raise Absent(f"LiteLLM can't be installed: {done.stderr.strip()[-300:]}")
        (CACHE / "litellm.done").touch()
    config = folder / "litellm.yaml"
    listed = "".join(LITELLM_MODEL.format(name=name, upstream=models) for name in names)
    config.write_text(
        f"model_list:{listed}\ngeneral_settings: {{master_key: {KEY}}}\n"
        "litellm_settings: {callbacks: [], set_verbose: false, telemetry: false}\n"
    )
    port = free_port()
    asked = [str(home / "bin" / "python"), "-c", "import importlib.metadata as m; print(m.version('litellm'))"]
    version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "PYTHONPATH": "",
    }
    env |= {"PATH": f"{home / 'bin'}:{os.environ.get('PATH', '')}", "NO_PROXY": "*"}
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with running(
        "litellm", command, port, folder, env=env, ready="/health/liveliness", version=f"litellm/{version}"
    ) as process:
        yield process
