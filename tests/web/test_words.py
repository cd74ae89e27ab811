"""Both languages are complete, and every error and every advice has its sentence."""

import inspect
import re
import string
from pathlib import Path

import pytest

from hrn_opt import errors
from hrn_opt.photo.quality import assess_yaw
from hrn_opt.types import Stage
from hrn_opt.web import words
from hrn_opt.web.words import ADVICE_ZH, ERRORS_ZH, STAGE_KEYS, WORDS, language_of, say, say_advice, say_error

PAGE = Path(words.__file__).parent
HAN = re.compile("[\u4e00-\u9fff]")
ERROR_CLASSES = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HrnOptError)
]
SAME_IN_BOTH = {"get_scene", "get_obj"}


def fields_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", WORDS)
def test_both_languages_say_it_with_the_same_values(key):
    english, chinese = WORDS[key]
    assert english and chinese and not HAN.search(english)
    assert HAN.search(chinese) or key in SAME_IN_BOTH
    assert fields_of(english) == fields_of(chinese)


def test_no_word_is_missing_or_left_over():
    texts = [path.read_text(encoding="utf-8") for path in PAGE.rglob("*.py") if path.name != "words.py"]
    code = "".join(text for text in texts if "from hrn_opt.web.words import" in text)
    used = set(re.findall(r'"([a-z0-9_]+)"', code)) | set(STAGE_KEYS.values())
    made = re.compile(r"(hrn|model|want)_\w+")  # their keys are put together
    assert {key for key in WORDS if key not in used and not made.fullmatch(key)} == set()
    asked = set(re.findall(r'(?:_word\(|say\([\w.]+, |say\(language_of\([\w.]+\), )"([a-z0-9_]+)"', code))
    assert asked <= set(WORDS)
    assert set(STAGE_KEYS) == set(Stage)


@pytest.mark.parametrize("kind", ERROR_CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_chinese_sentence(kind):
    values = dict.fromkeys(kind.value_names, 7)
    assert HAN.search(say_error("zh", kind("An English sentence.", **values)))
    assert say_error("en", kind("An English sentence.", **values)) == "An English sentence."


def test_sentences_ask_for_values_that_the_error_has():
    kinds = {kind.__name__: kind for kind in ERROR_CLASSES}
    for key, sentence in ERRORS_ZH.items():
        assert fields_of(sentence) <= set(kinds[key.split(".")[0]].value_names), key


def test_a_reason_has_its_own_sentence():
    video = errors.PhotoUnreadable("It is a video.", photo="a.mp4", reason="video")
    assert "视频" in say_error("zh", video) and "a.mp4" in say_error("zh", video)
    other = errors.PhotoUnreadable("It cannot be read.", photo="b.jpg", reason="permission")
    assert say_error("zh", other) == ERRORS_ZH["PhotoUnreadable"].format(photo="b.jpg")


def test_advice():
    (advice,) = assess_yaw(0.7)
    assert say_advice("en", advice) == advice.message
    assert "40°" in say_advice("zh", advice)
    assert set(ADVICE_ZH) == {"FaceSmall", "PhotoDark", "FaceTurned", "FaceCovered", "PhotoBright", "WithoutDetectors"}


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-TW", "zh"),
        ("de-DE,de;q=0.9", "en"),
        ("fr,zh;q=0.5,en;q=0.3", "zh"),
        ("en-US,zh;q=0.5", "en"),
        ("", "en"),
    ],
)
def test_language_is_the_browser_s_first_that_we_speak(accepted, language):
    assert language_of({"accept-language": accepted}) == language


def test_words_are_filled():
    assert say("en", "waiting", position=3) == "Waiting: 3 before this photo"
