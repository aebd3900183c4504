"""Which language a prompt is in, and the one spelling for all ways to write the same Korean text.

Knows Unicode only: no dictionary, no morphology, no backend.
"""

import re
import unicodedata
from typing import Literal, get_args

Language = Literal["ko", "en"]
LanguageChoice = Literal["auto", "ko", "en"]
LANGUAGE_CHOICES: tuple[str, ...] = get_args(LanguageChoice)

# Conjoining jamo (+ Extended-A, Extended-B), compatibility jamo, syllables, halfwidth jamo (Unicode 16,
# chapter 18.6).
_HANGUL = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff\u3131-\u318e\uac00-\ud7a3\uffa0-\uffdc]")

_HALFWIDTH = {
    code: int(unicodedata.decomposition(chr(code)).split()[1], 16)
    for code in range(0xFFA1, 0xFFDD)
    if unicodedata.decomposition(chr(code)).startswith("<narrow>")
}
_LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_TAILS = "ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_SPELT_SYLLABLE = re.compile(f"([{_LEADS}])([{_VOWELS}])([{_TAILS}](?![{_VOWELS}]))?")
# Laughing or crying ("ㅋㅋㅠㅠ"), no spelt syllable: a doubled letter at the start, or a doubled vowel.
_SOUND = re.compile(rf"^(.)\1|([{_VOWELS}])\2")
_JAMO_RUN = re.compile("[\u3131-\u3163]+")


def contains_hangul(text: str) -> bool:
    """True when `text` holds at least one Hangul character of any kind, composed or not."""
    return _HANGUL.search(text) is not None


def detect_language(text: str) -> Language:
    """`"ko"` as soon as `text` holds any Hangul (mixed text is Korean), else `"en"`."""
    return "ko" if contains_hangul(text) else "en"


def normalise(text: str) -> str:
    """The NFC form of `text`, with halfwidth jamo widened and syllables spelt letter by letter put together.

    `"ㄱㅗㅇㅑㅇㅇㅣ"` becomes `"고양이"`; letters that stand for a sound, such as `"ㅋㅋㅋ"` and `"ㅠㅠ"`,
    stay. Runs of white space become one blank, and the ends are stripped. The result is a fixed point of
    this function.
    """
    text = unicodedata.normalize("NFC", text).translate(_HALFWIDTH)
    return " ".join(_JAMO_RUN.sub(_compose_run, text).split())


def _compose_run(run: re.Match[str]) -> str:
    letters = run.group()
    if _SOUND.search(letters):
        return letters
    return _SPELT_SYLLABLE.sub(_compose_syllable, letters)


def _compose_syllable(syllable: re.Match[str]) -> str:
    lead, vowel, tail = syllable.groups()
    tail_index = _TAILS.index(tail) + 1 if tail else 0
    # The arithmetic of Hangul syllable composition, Unicode 16, chapter 3.12.
    return chr(0xAC00 + (_LEADS.index(lead) * len(_VOWELS) + _VOWELS.index(vowel)) * 28 + tail_index)
