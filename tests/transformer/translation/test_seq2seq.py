"""A small Marian model that is really trained here translates; M2M100 and NLLB folders get their language
codes.
"""

import asyncio
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
)

from predictor.errors import QueueFull
from transformer.translation.cache import CachedTranslator
from transformer.translation.seq2seq import Seq2SeqTranslator

# Emoji names as CLDR pairs them. The model also learns to put a colour or a feature it has seen on a noun
# it has seen.
NOUNS = {
    "고양이": "cat",
    "강아지": "dog",
    "사과": "apple",
    "토끼": "rabbit",
    "하트": "heart",
    "로봇": "robot",
    "곰": "bear",
}
COLOURS = {"빨간": "red", "파란": "blue", "노란": "yellow", "초록": "green", "까만": "black"}
FEATURES = {"선글라스 낀": "with sunglasses", "왕관 쓴": "with crown", "안경 쓴": "with glasses"}
UNSEEN = {"파란 토끼": "blue rabbit", "왕관 쓴 곰": "bear with crown"}


def _pairs() -> dict[str, str]:
    pairs = dict(NOUNS)
    pairs |= {f"{ko} {noun}": f"{en} {NOUNS[noun]}" for ko, en in COLOURS.items() for noun in NOUNS}
    pairs |= {f"{ko} {noun}": f"{NOUNS[noun]} {en}" for ko, en in FEATURES.items() for noun in NOUNS}
    return {korean: english for korean, english in pairs.items() if korean not in UNSEEN}


def _train_sentencepiece(folder: Path, name: str, texts: list[str], size: int) -> Path:
    corpus = folder / f"{name}.txt"
    corpus.write_text("\n".join(texts), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / name), vocab_size=size, model_type="word",
        pad_id=-1, bos_id=-1, eos_id=1, unk_id=0, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return folder / f"{name}.model"


@pytest.fixture(scope="module")
def marian_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian model, trained on some fifty name pairs until it knows them (some hundred steps, seconds)."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("marian")
    pairs = _pairs()
    source = _train_sentencepiece(folder, "source", list(pairs), 100)
    target = _train_sentencepiece(folder, "target", list(pairs.values()), 100)
    pieces: dict[str, int] = {"</s>": 0, "<unk>": 1}
    for path in (source, target):
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        for index in range(processor.get_piece_size()):
            pieces.setdefault(processor.id_to_piece(index), len(pieces))
    pieces["<pad>"] = len(pieces)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps(pieces), encoding="utf-8")
    tokenizer = MarianTokenizer(
        source_spm=str(source),
        target_spm=str(target),
        vocab=str(vocabulary),
        source_lang="ko",
        target_lang="en",
    )
    config = MarianConfig(
        vocab_size=len(pieces), d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=32,
        pad_token_id=pieces["<pad>"], eos_token_id=0, decoder_start_token_id=pieces["<pad>"],
        forced_eos_token_id=0, dropout=0.0, init_std=0.1,
    )  # fmt: skip
    model = MarianMTModel(config).train()
    batch = tokenizer(list(pairs), text_target=list(pairs.values()), return_tensors="pt", padding=True)
    batch["labels"][batch["labels"] == pieces["<pad>"]] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        loss = model(**batch).loss
        if loss.item() < 0.005:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = folder / "trained"
    model.eval().save_pretrained(trained)
    tokenizer.save_pretrained(trained)
    return trained


@pytest.fixture(scope="module")
def translator(marian_folder: Path) -> Iterator[Seq2SeqTranslator]:
    translator = Seq2SeqTranslator(marian_folder, max_batch_size=4)
    yield translator
    translator.close()


def test_a_trained_marian_translates_what_it_learnt(translator: Seq2SeqTranslator) -> None:
    pairs = _pairs()
    translations = asyncio.run(translator.translate(list(pairs)))
    right = sum(t.english == english for t, english in zip(translations, pairs.values(), strict=True))
    assert right >= 0.95 * len(pairs)
    assert {(t.backend, t.language) for t in translations} == {("seq2seq", "ko")}


def test_it_composes_pairs_that_were_not_in_the_training_set(translator: Seq2SeqTranslator) -> None:
    translations = asyncio.run(translator.translate(list(UNSEEN)))
    assert [t.english for t in translations] == list(UNSEEN.values())


def test_words_without_a_token_are_reported(translator: Seq2SeqTranslator) -> None:
    (translation,) = asyncio.run(translator.translate(["빨간 쀍뛟"]))
    assert translation.unknown == ("쀍뛟",)


def test_a_text_longer_than_the_model_can_take_is_cut(translator: Seq2SeqTranslator) -> None:
    (translation,) = asyncio.run(translator.translate(["빨간 사과 " * 100]))
    assert translation.english


def test_concurrent_calls_share_batches_and_keep_their_order(
    translator: Seq2SeqTranslator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, str]] = []
    translate_batch = translator._translate_batch

    def watch(texts: list[str]) -> list[object]:
        batches.append((len(texts), threading.current_thread().name))
        return translate_batch(texts)

    monkeypatch.setattr(translator, "_translate_batch", watch)

    async def ask() -> list[str]:
        answers = await asyncio.gather(*(translator.translate([noun]) for noun in NOUNS))
        return [translation.english for (translation,) in answers]

    assert asyncio.run(ask()) == list(NOUNS.values())
    assert [size for size, _ in batches] == [4, 3]
    assert all(name.startswith("seq2seq") for _, name in batches)


def test_a_cancelled_caller_does_not_disturb_the_others(translator: Seq2SeqTranslator) -> None:
    async def ask() -> str:
        leaving = asyncio.create_task(translator.translate(["사과"]))
        staying = asyncio.create_task(translator.translate(["고양이"]))
        await asyncio.sleep(0)
        leaving.cancel()
        return (await staying)[0].english

    assert asyncio.run(ask()) == "cat"


def test_texts_whose_callers_have_gone_are_not_translated_and_more_than_may_wait_are_refused(
    translator: Seq2SeqTranslator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the cache, as it is served."""
    batches: list[list[str]] = []
    translate_batch, gate = translator._translate_batch, threading.Semaphore(0)

    def hold(texts: list[str]) -> list[object]:
        batches.append(texts)
        gate.acquire()
        return translate_batch(texts)

    monkeypatch.setattr(translator, "_translate_batch", hold)
    monkeypatch.setattr(translator, "_max_waiting", 7)
    cache = CachedTranslator(translator, max_entries=10)

    async def ask() -> str:
        first = asyncio.create_task(cache.translate(["고양이"]))
        while not batches:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        leaving = [asyncio.create_task(cache.translate([noun])) for noun in list(NOUNS)[1:]]
        leaving.append(asyncio.create_task(cache.translate(["빨간 곰"])))
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFull, match="too many texts wait for their translation; try again in"):
            await cache.translate(["파란 곰"])
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        last = asyncio.create_task(cache.translate(["파란 곰"]))
        await asyncio.sleep(0.01)
        gate.release(100)
        await first
        return (await last)[0].english

    assert asyncio.run(ask()) == "blue bear"
    assert batches == [["고양이"], ["파란 곰"]]


def test_a_failing_batch_fails_its_callers_only(
    translator: Seq2SeqTranslator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(translator._model, "generate", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            asyncio.run(translator.translate(["사과"]))
    assert asyncio.run(translator.translate(["사과"]))[0].english == "apple"


def test_pickled_weights_are_refused(marian_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(marian_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="safetensors"):
        Seq2SeqTranslator(folder)


def test_other_folders_are_refused(marian_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        Seq2SeqTranslator(tmp_path)
    shutil.copytree(marian_folder, tmp_path / "gpt")
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="no encoder-decoder"):
        Seq2SeqTranslator(tmp_path / "gpt")


def _save_multilingual_model(folder: Path) -> None:
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=300, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    M2M100ForConditionalGeneration(config).eval().save_pretrained(folder)


def _languages_in_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The language tokens that open the model's input and its output."""
    translator = Seq2SeqTranslator(folder, max_new_tokens=4)
    seen: dict[str, torch.Tensor] = {}
    generate = translator._model.generate

    def watch(**inputs: torch.Tensor) -> torch.Tensor:
        seen["input"] = inputs["input_ids"]
        seen["output"] = generate(**inputs)
        return seen["output"]

    monkeypatch.setattr(translator._model, "generate", watch)
    asyncio.run(translator.translate(["고양이"]))
    translator.close()
    tokens = translator._tokenizer.convert_ids_to_tokens
    return tokens(int(seen["input"][0, 0])), tokens(int(seen["output"][0, 1]))


def test_m2m100_goes_from_korean_to_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spm = _train_sentencepiece(tmp_path, "m2m", ["고양이 cat", "강아지 dog"], 20)
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "▁고양이": 4, "▁cat": 5}))
    tokenizer = M2M100Tokenizer(vocab_file=str(vocabulary), spm_file=str(spm))
    folder = tmp_path / "model"
    tokenizer.save_pretrained(folder)
    _save_multilingual_model(folder)
    assert _languages_in_use(folder, monkeypatch) == ("__ko__", "__en__")


def test_nllb_goes_from_korean_to_english_and_warns_of_its_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "nllb-200-tiny"
    tokenizer = NllbTokenizer(vocab={"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "▁": 4, "고": 5}, merges=[])
    tokenizer.save_pretrained(folder)
    _save_multilingual_model(folder)
    with caplog.at_level(logging.WARNING):
        assert _languages_in_use(folder, monkeypatch) == ("kor_Hang", "eng_Latn")
    assert "licence" in caplog.text


def test_a_free_licence_is_no_reason_to_warn(marian_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    Seq2SeqTranslator(marian_folder).close()
    assert "licence" not in caplog.text


def test_a_stated_non_commercial_licence_is(
    marian_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "restricted"
    shutil.copytree(marian_folder, folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    Seq2SeqTranslator(folder).close()
    assert "licence" in caplog.text
