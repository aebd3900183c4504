import json
import shutil
import sys

import numpy as np
import pytest

from benchmarks.approximations import Drawn, Task, main, quality
from predictor.approximations import FILE, read_approximations
from predictor.diffusion.diffuser import Diffuser
from tests.predictor.engine.recorder import make_row
from tests.predictor.serving import write_store
from weights.eval.judge import Judge
from weights.glyphs.dataset import load_glyphs, load_pictures, on_white


def test_the_distance_and_the_rights_are_those_of_the_pictures():
    """Real glyphs as the exact pictures, their neighbours as the approximate ones."""
    glyphs = load_glyphs()[:12]
    real = on_white(load_pictures("notoemoji"))[:12]
    found = [Task(make_row(loras=(("notoemoji@1", 1.0),)), glyph.char, "notoemoji") for glyph in glyphs]
    wrong = np.roll(real, 1, axis=0)
    exact, other = Drawn(real, [1.0], [0.5]), Drawn(wrong, [1.0], [0.5])
    numbers = quality(found, exact, other)
    difference = real.astype(float) - wrong
    assert numbers["mean_absolute_error"] == pytest.approx(np.abs(difference).mean(), abs=0.01)
    assert numbers["psnr_db"] == pytest.approx(10 * np.log10(255**2 / (difference**2).mean()), abs=0.1)
    assert numbers["pictures"] == 12
    seen = [verdict.char for verdict in Judge().judge(real)]
    right = np.mean([char == glyph.char for char, glyph in zip(seen, glyphs, strict=True)])
    assert numbers["right_emoji_exact"] == pytest.approx(right, abs=1e-4)
    assert numbers["right_emoji"] < numbers["right_emoji_exact"]
    assert quality(found, exact, exact)["psnr_db"] is None


def test_what_was_measured_is_what_the_replies_say(tiny_folders, tmp_path, monkeypatch, capsys):
    base = tmp_path / "base"
    shutil.copytree(tiny_folders["emoji"], base)
    (base / "generation.json").write_text(
        '{"num_inference_steps": 4, "guidance_scale": 2.0}', encoding="utf-8"
    )
    few = {"num_inference_steps": 2, "solver": "ddim"}
    (base / FILE).write_text(json.dumps({"few_steps": few}), encoding="utf-8")
    write_store(tmp_path / "loras", base)
    flags = ["--model_dir", str(tmp_path), "--pictures", "5", "--batch", "2", "--try", "ddim:4", "--write"]
    monkeypatch.setattr(sys, "argv", ["approximations", *flags])
    main()
    assert "ddim:4" in capsys.readouterr().out
    found = read_approximations(base, Diffuser.load(base))
    assert list(found) == ["none", "block-cache:2", "block-cache:3", "few-steps"]
    for name in list(found)[1:]:
        numbers = found[name].label["quality"]
        assert numbers["pictures"] == 5
        assert numbers["mean_absolute_error"] > 0
        assert numbers["exact"]["num_inference_steps"] == 4
        assert numbers["exact"]["lora"] == ["notoemoji@1", "openmoji@1"]
    assert found["few-steps"].label.items() >= few.items()
