import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.permissions import shut
from tests.tiny_models import make_lora, make_pipeline
from tests.weights.loras import make_manifest, make_tensors
from weights import __main__ as cli
from weights.__main__ import main
from weights.store import Store

LORA = make_lora(make_pipeline("sd15").unet)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "loras")
    store.add(make_tensors(1), make_manifest(), alias="stable")
    store.add(make_tensors(2), make_manifest())
    return store


def test_import(tiny_folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(LORA, tmp_path / "pytorch_lora_weights.safetensors")
    arguments = ["import", str(tmp_path), "--name", "noto", "--base", str(tiny_folders["sd15"])]
    arguments += ["--store", str(tmp_path / "loras"), "--alias", "stable", "--label", "a=b", "--label", "c="]
    arguments += ["--source", "a test", "--license", "OFL-1.1", "--attribution", "Noto", "--dtype", "float16"]
    assert main([*arguments, "--lora-alpha", "4"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("noto@1, also noto@stable: rank 2, alpha 4, ")
    assert err == ""
    store = Store(tmp_path / "loras")
    version = store.resolve("noto@stable")
    assert version.manifest.labels == {"a": "b", "c": ""}
    assert (version.manifest.source, version.manifest.license) == ("a test", "OFL-1.1")
    assert all(tensor.dtype is torch.float16 for tensor in store.load(version).values())
    assert main(arguments) == 0
    assert "does not tell its alpha" in capsys.readouterr().err


def test_a_refused_import(
    tiny_folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({**LORA, "extra": torch.ones(1)}, file)
    arguments = ["import", str(file), "--name", "noto", "--base", str(tiny_folders["sd15"])]
    assert main([*arguments, "--store", str(tmp_path / "loras")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"error: {file}: extra: is no key of a known LoRA layout. "
        "Known are load_attn_procs, diffusers, peft and kohya; convert the file to one of them\n"
    )
    assert not (tmp_path / "loras").exists()


def test_a_folder_that_may_not_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "closed" / "lora").mkdir(parents=True)
    with shut(tmp_path / "closed"):
        assert main(["import", str(tmp_path / "closed" / "lora"), "--name", "noto"]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "Permission denied" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["import", "x", "--name", "Noto"],
        ["import", "x", "--name", "../x"],
        ["import", "x"],
        ["import", "x", "--name", "x", "--alias", "1"],
        ["import", "x", "--name", "x", "--label", "a"],
        ["import", "x", "--name", "x", "--label", "a b=c"],
        ["import", "x", "--name", "x", "--lora-alpha", "0"],
        ["import", "x", "--name", "x", "--lora-alpha", "nan"],
        ["import", "x", "--name", "x", "--source", "a\nb"],
        ["import", "x", "--name", "x", "--dtype", "int8"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m weights" in capsys.readouterr().err


def test_list(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--store", str(store.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["VERSION", "ALIASES", "RANK", "MODULES", "CREATED", "LICENSE", "SHA-256"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["notoemoji@1", "stable", "4", "2"],
        ["notoemoji@2", "-", "4", "2"],
    ]
    assert main(["list", "--json", "--store", str(store.root)]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["version"], entry["aliases"]) for entry in listed] == [
        ("notoemoji", 1, ["stable"]),
        ("notoemoji", 2, []),
    ]


def test_show(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "notoemoji", "--store", str(store.root)]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (shown["version"], shown["aliases"], shown["license"], shown["modules"]) == (
        "1",
        "stable",
        "-",
        "2",
    )
    assert main(["show", "notoemoji@2", "--json", "--store", str(store.root)]) == 0
    assert json.loads(capsys.readouterr().out)["targets"].keys() == make_manifest().targets.keys()
    assert main(["show", "notoemoji@7", "--store", str(store.root)]) == 1
    assert "There are: 1, 2, stable" in capsys.readouterr().err


def test_verify(store: Store, tiny_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out.count("sound") == 2
    (store.root / "notoemoji" / "2" / "adapter.safetensors").write_bytes(b"")
    assert main(["verify", "--store", str(store.root)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("notoemoji@1: sound")
    assert "2/adapter.safetensors: SHA-256" in err
    assert (
        main(["verify", "notoemoji@1", "--store", str(store.root), "--base", str(tiny_folders["sd15"])]) == 1
    )
    assert "does not fit the base" in capsys.readouterr().err


def test_alias_and_remove(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--store", str(store.root)]
    assert main(["alias", "notoemoji@2", "stable", *where]) == 0
    assert store.aliases() == {"notoemoji": {"stable": 2}}
    assert main(["remove", "notoemoji@2", *where]) == 1
    assert "aliased as stable" in capsys.readouterr().err
    assert main(["remove", "notoemoji@2", "--force", *where]) == 0
    assert main(["alias", "notoemoji@1", "canary", *where]) == 0
    assert main(["alias", "--delete", "notoemoji@canary", *where]) == 0
    assert store.aliases() == {}
    for wrong in (
        ["remove", "notoemoji"],
        ["remove", "notoemoji@stable"],
        ["alias", "notoemoji@1"],
        ["remove", "x@1"],
    ):
        assert main([*wrong, *where]) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_route(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--store", str(store.root)]
    assert main(["route", "emoji", "notoemoji@1=90", "notoemoji@2=10", *where]) == 0
    assert store.routes() == {"emoji": {"notoemoji@1": 90, "notoemoji@2": 10}}
    assert main(["route", *where]) == 0
    line = "emoji: 90 % notoemoji@1, 10 % notoemoji@2\n"
    assert capsys.readouterr().out == 2 * line
    for wrong in (
        ["emoji", "notoemoji@1=90"],
        ["emoji", "notoemoji@1=50", "notoemoji@1=50"],
        ["emoji", "notoemoji@3=100"],
        ["Emoji", "notoemoji@1=100"],
        ["emoji"],
        ["party", "--delete"],
    ):
        assert main(["route", *wrong, *where]) == 1
        assert capsys.readouterr().err.startswith("error: ")
    for wrong in ("notoemoji@1", "notoemoji@1=x", "notoemoji@1=-1", "notoemoji@1=٣"):
        with pytest.raises(SystemExit):
            main(["route", "emoji", wrong, *where])
    assert store.routes() == {"emoji": {"notoemoji@1": 90, "notoemoji@2": 10}}
    assert main(["route", "emoji", "--delete", *where]) == 0
    assert store.routes() == {}


def test_other_commands_get_their_arguments_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere.py").write_text("def main(argv):\n    print(argv)\n    return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.FORWARDED, "train", ("elsewhere", "train"))
    assert main(["train", "--help", "--steps", "3"]) == 3
    assert capsys.readouterr().out == "['--help', '--steps', '3']\n"


def test_looking_at_the_store_needs_no_torch(store: Store) -> None:
    program = (
        "import sys; from weights.__main__ import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    )
    for command in (
        ["list"],
        ["show", "notoemoji"],
        ["alias", "notoemoji@1", "canary"],
        ["route", "emoji", "notoemoji@1=100"],
        ["remove", "notoemoji@2"],
    ):
        run = subprocess.run(
            [sys.executable, "-c", program, *command, "--store", str(store.root)],
            capture_output=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
