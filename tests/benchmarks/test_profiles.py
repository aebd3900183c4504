"""Settings from a command line, and the profiles they start from."""

from pathlib import Path

import pytest

from benchmarks.jobs import GUIDANCE, mixes
from benchmarks.peers.settings import Settings as PeerSettings
from benchmarks.profiles import EVENING, PROFILES, QUICK, read_settings
from benchmarks.settings import SCENARIOS, Settings
from benchmarks.sides import environment


def test_every_field_is_a_flag_and_beats_the_profile() -> None:
    settings = read_settings(["--quick", "--repeats", "7", "--loads", "0.5", "0.9", "--out", "elsewhere"])
    assert (settings.repeats, settings.loads, settings.out) == (7, (0.5, 0.9), Path("elsewhere"))
    assert settings.burst == QUICK.burst
    assert read_settings(["--profile", "evening", "--minutes", "20"]).minutes == 20
    assert read_settings(["--profile", "evening"]) == EVENING
    assert read_settings([]) == Settings()


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_every_scenario_and_side(name: str) -> None:
    settings = PROFILES[name]
    assert set(settings.scenarios) == set(SCENARIOS)
    assert settings.sides == Settings().sides
    assert 0.7 in settings.loads
    assert {"predictor", "bentoml"} <= set(settings.latency_sides)
    assert {"mixed", "short among long"} <= set(settings.latency_mixes)


@pytest.mark.parametrize("name", ["night", "evening"])
def test_a_profile_that_measures_has_what_is_to_be_reported(name: str) -> None:
    settings = PROFILES[name]
    assert settings.repeats >= 5
    assert settings.loads == (0.5, 0.7, 0.9)
    assert settings.adapters == 100
    assert settings.drift_requests * settings.repeats >= 10_000
    assert len(settings.dispatcher_batches) == 11
    classes = len(mixes(["any@1"], settings.steps)["mixed"].classes())
    for jobs in (settings.burst, settings.burst_alone, settings.burst_grouped):
        assert jobs % classes == 0  # so that all sides get the same work in the mean


@pytest.mark.parametrize(
    "flags",
    [
        ["--scenarios", "nonsense"],
        ["--latency_sides", "predictor", "nonsense"],
        ["--steps", "8", "4"],
        ["--repeats", "0"],
    ],
)
def test_wrong_flags_end_the_process(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_settings(flags)
    assert "error" in capsys.readouterr().err


def test_a_peer_is_told_every_kind_of_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loras = ["notoemoji@1", "openmoji@1"]
    for lora in loras:
        folder = tmp_path / lora.replace("@", "/")
        folder.mkdir(parents=True)
        (folder / "adapter.safetensors").touch()
    for name, value in environment(EVENING, tmp_path).items():
        monkeypatch.setenv(name, value)
    kinds = PeerSettings.from_environment().kinds
    for mix in mixes(loras, EVENING.steps).values():
        assert {(job.steps, job.guidance, job.lora) for job in mix.jobs(200, 1)} <= set(kinds)
    assert len(kinds) == len(EVENING.steps) * len(GUIDANCE) * (len(loras) + 1)
