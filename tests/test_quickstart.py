"""The launcher of `make run` when things go otherwise: a port in use, a child that dies, an interrupt."""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from quickstart import Port, QuickstartError, check_ports, main
from tests import tiny_models
from tests.permissions import shut
from tests.quickstart_process import PORTS, Quickstart, free_ports


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's own model folder: Stable Diffusion 1.5 at tiny size, no LoRA; ordinary prompts fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "MAX_TOKENS", 77)
        yield tiny_models.write_folder(tmp_path_factory.mktemp("model") / "base", "sd15").parent


def ports_are_free(quickstart: Quickstart) -> bool:
    check_ports([Port(number, variable) for variable, number in quickstart.ports.items()])
    return True


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        used = listener.getsockname()[1]
        numbers = [*free_ports(3), used]
        ports = dict(zip((port.variable for port in PORTS), numbers, strict=True))
        with Quickstart(tmp_path, tmp_path, ports) as quickstart:
            assert quickstart.process.wait(60) == 1
    assert f"Port {used} is in use" in quickstart.printed()
    assert f"PREDICTOR_GRPC_PORT={used + 100}" in quickstart.printed()
    assert not quickstart.out.exists()


def test_two_ports_must_differ() -> None:
    (number,) = free_ports(1)
    with pytest.raises(QuickstartError, match=f"GRPC_PORT and HTTP_PORT are both {number}"):
        check_ports([Port(number, "HTTP_PORT"), Port(number, "GRPC_PORT")])


def test_a_number_that_is_no_port_is_refused() -> None:
    with pytest.raises(QuickstartError, match="HTTP_PORT=70000 is no port"):
        check_ports([Port(70000, "HTTP_PORT")])


def test_a_folder_for_pictures_that_may_not_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Say, an out/ that root has made."""
    numbers = [
        f"--{port.variable.lower()}={number}" for port, number in zip(PORTS, free_ports(4), strict=True)
    ]
    (tmp_path / "out").mkdir()
    with shut(tmp_path / "out", 0o555):
        assert main([*numbers, f"--out={tmp_path / 'out'}"]) == 1
    printed = capsys.readouterr().err
    assert "Permission denied" in printed
    assert "predictor.log" in printed
    assert len(printed.splitlines()) == 1


def test_a_child_that_cannot_start_ends_it_all_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with Quickstart(tmp_path / "empty", tmp_path) as quickstart:
        assert quickstart.process.wait(300) == 1
    assert "The predictor ended with status 1" in quickstart.printed()
    assert "model_index.json" in quickstart.printed()
    assert "Traceback" not in quickstart.printed()
    assert ports_are_free(quickstart)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_while_starting_stops_everything(
    model_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with Quickstart(model_dir, tmp_path) as quickstart:
        quickstart.wait_for("Starting the predictor")
        children = psutil.Process(quickstart.process.pid).children(recursive=True)
        quickstart.process.send_signal(number)
        assert quickstart.process.wait(60) == 0
    assert "Traceback" not in quickstart.printed()
    assert len(children) >= 2
    assert not any(child.is_running() for child in children)


def test_it_serves_ones_own_model_until_a_child_dies(model_dir: Path, tmp_path: Path) -> None:
    with Quickstart(model_dir, tmp_path) as quickstart:
        quickstart.wait_for("Serving; Ctrl-C stops.")
        url = f"http://127.0.0.1:{quickstart.ports['HTTP_PORT']}"
        reply = httpx.post(f"{url}/v1/models/emoji:predict", json={"instances": ["a cat"]}, timeout=60)
        assert reply.status_code == httpx.codes.OK
        for language in ("english", "korean"):
            with Image.open(quickstart.out / f"{language}-emoji.png") as picture:
                assert picture.size == (16, 16)
        predictor = next(
            child
            for child in psutil.Process(quickstart.process.pid).children()
            if "predictor" in child.cmdline()
        )
        predictor.kill()
        assert quickstart.process.wait(60) == 1
    assert "The predictor ended with status -9" in quickstart.printed()
    assert ports_are_free(quickstart)


def test_a_child_that_does_not_stop_is_killed_at_the_second_interrupt(
    model_dir: Path, tmp_path: Path
) -> None:
    with Quickstart(model_dir, tmp_path) as quickstart:
        quickstart.wait_for("Starting the predictor")
        launcher = psutil.Process(quickstart.process.pid)
        while [child.cmdline()[2:3] for child in launcher.children()] != [["predictor"], ["transformer"]]:
            assert quickstart.process.poll() is None
            time.sleep(0.05)
        children = launcher.children()
        for child in children:
            child.suspend()  # a stopped process handles no SIGTERM
        quickstart.process.send_signal(signal.SIGINT)
        quickstart.wait_for("Stopping ...")
        for name in ("transformer", "predictor"):
            quickstart.process.send_signal(signal.SIGINT)
            quickstart.wait_for(f"The {name} did not stop in time and is killed.")
        assert quickstart.process.wait(60) == 0
    assert not any(child.is_running() for child in children)
