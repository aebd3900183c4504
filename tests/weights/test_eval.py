"""The judge and the figures of `make eval`, on real glyphs, blurred ones, and a small real HTTP service."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from weights.eval.__main__ import main
from weights.eval.drawing import Drawing
from weights.eval.judge import Judge
from weights.eval.quality import laplacian_energy, measure, nearest_glyph
from weights.eval.service import judge_service, report
from weights.glyphs.dataset import LOOKS, load_glyphs, load_pictures, on_white

EVERY_NINTH = list(range(0, len(load_glyphs()), 9))


@pytest.fixture(scope="module")
def judge():
    return Judge()


def blurred(pictures):
    return np.stack([np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(2))) for p in pictures])


@pytest.mark.parametrize("look", LOOKS)
def test_real_glyphs_pass_every_bar_and_blurred_ones_are_not_crisp(judge, look):
    real = on_white(load_pictures(look))[EVERY_NINTH]
    quality = measure(look, EVERY_NINTH, real, judge)
    assert quality.emoji_right >= 0.96
    assert quality.look_right >= 0.98
    assert quality.nearest_right == 1
    assert quality.crispness == pytest.approx(1)
    assert measure(look, EVERY_NINTH, blurred(real), judge).crispness < 0.6


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_the_embedded_model_is_measured_with_and_without_its_unet(judge):
    drawing = Drawing(Path("weights/embedded"), LOOKS)
    names = [glyph.name for glyph in load_glyphs()]
    indices = [names.index(name) for name in ("rocket", "pizza", "octopus")]
    for look in LOOKS:
        real = on_white(load_pictures(look))[indices]
        kept = drawing.reconstruct(real)
        assert kept.dtype == np.uint8
        for pictures in (kept, drawing.draw(look, [names[i] for i in indices], [1, 2, 3])):
            quality = measure(look, indices, pictures, judge)
            assert (quality.emoji_right, quality.look_right, quality.nearest_right) == (1, 1, 1)


def test_a_wrong_picture_is_judged_wrong_and_named(judge):
    names = [glyph.name for glyph in load_glyphs()]
    apple, rocket = names.index("red apple"), names.index("rocket")
    picture = on_white(load_pictures("notoemoji"))[[rocket]]
    quality = measure("notoemoji", [apple], picture, judge)
    assert quality.emoji_right == 0
    assert quality.mistaken == ("red apple → rocket",)
    assert measure("openmoji", [rocket], picture, judge).look_right == 0


def test_the_laplacian_of_a_flat_picture_is_nothing_and_of_a_dot_is_known():
    flat = np.full((1, 8, 8, 3), 200, np.uint8)
    assert laplacian_energy(flat)[0] == 0
    dot = flat.copy()
    dot[0, 4, 4] = 210
    assert laplacian_energy(dot)[0] == pytest.approx((40 + 4 * 10) / 36)


def test_the_nearest_glyph_of_a_glyph_is_itself():
    pictures = on_white(load_pictures("openmoji"))[EVERY_NINTH]
    assert nearest_glyph(pictures).tolist() == EVERY_NINTH


@pytest.fixture
def service():
    """Answers like the transformer, always with the real red apple in the look that was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            look = self.path.split("/")[3]
            self.rfile.read(int(self.headers["Content-Length"]))
            names = [glyph.name for glyph in load_glyphs()]
            file = io.BytesIO()
            Image.fromarray(on_white(load_pictures(look)[names.index("red apple")])).save(file, "PNG")
            outputs = [
                {"name": "prompt", "data": ["red apple"]},
                {"name": "image", "data": [base64.b64encode(file.getvalue()).decode()]},
            ]
            body = json.dumps({"outputs": outputs}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_is_judged_by_what_its_pictures_show(service, tmp_path):
    sentences = tmp_path / "sentences.jsonl"
    rows = [{"text": "빨간 사과", "emoji": ["🍎"]}, {"text": "로켓", "emoji": ["🚀"]}]
    sentences.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    outcomes = judge_service(service, sentences, concurrency=1)
    assert [outcome.right for outcome in outcomes] == [True, False]
    assert [outcome.look for outcome in outcomes] == ["notoemoji", "openmoji"]
    assert outcomes[1].shown == "🍎"
    assert "1 of 2, 50.0%" in report(outcomes)
    assert main(["service", "--url", service, "--sentences", str(sentences), "--out", str(tmp_path)]) == 1


def test_no_service_is_said_plainly(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["service", "--url", "http://127.0.0.1:9", "--sentences", "transformer/eval_ko.jsonl"])
    assert stopped.value.code == 2
    assert "make run" in capsys.readouterr().err
