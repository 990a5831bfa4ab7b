"""How texts are cut into words, and which of them are looked for."""

import pytest

from server.conversations.text.words import LONGEST, sought, words_of

CUT = {
    "plain": ("Where is order A-1234?", {"where", "is", "order", "a", "1234"}),
    "latin with accents": ("Grüße aus MÜNCHEN, café", {"grusse", "aus", "munchen", "cafe"}),
    "accents written apart": ("cafe\u0301", {"cafe"}),
    "cyrillic": ("Где мой заказ? Ещё", {"где", "мои", "заказ", "еще"}),
    "arabic with and without vowel signs": ("أَهْلًا مـرحبا", {"اهلا", "مرحبا"}),
    "hindi": ("हिन्दी में लिखो", {"हिन्दी", "में", "लिखो"}),
    "chinese": ("我想退货。", {"我想", "想退", "退货", "货"}),
    "japanese": ("東京へ行く", {"東京", "京へ", "へ行", "行く", "く"}),
    "narrow kana": ("ｶﾞﾗｽ", {"ガラ", "ラス", "ス"}),
    "korean": ("한국어 검색", {"한국어", "검색"}),
    "thai": ("ขอบคุณ", {"ขอ", "อบ", "บค", "คุ", "ุณ", "ณ"}),
    "mixed": ("iPhone手机 ok", {"iphone", "手机", "机", "ok"}),
    "an address": ("ana.b@example.org", {"ana", "b", "example", "org"}),
    "joiners": ("می\u200cشود", {"میشود"}),
    "nothing": (" … 🙂!", set()),
    "long": ("x" * 99, {"x" * LONGEST}),
}
SOUGHT = {
    "each once": ("Late late PARCEL", ["late", "parcel"]),
    "what another implies is left out": ("par parcel", ["parcel"]),
    "two characters": ("退货", ["退货"]),
    "one character": ("货", ["货"]),
    "more characters": ("東京都", ["東京", "京都"]),
    "mixed": ("iPhone手机", ["iphone", "手机"]),
    "nothing": ("?!", []),
}


@pytest.mark.parametrize("name", CUT)
def test_a_text_is_cut_into_words(name: str) -> None:
    text, words = CUT[name]
    assert words_of(text) == words


@pytest.mark.parametrize("name", SOUGHT)
def test_what_is_looked_for(name: str) -> None:
    text, words = SOUGHT[name]
    assert sought(text) == words


@pytest.mark.parametrize("name", CUT)
def test_a_text_is_found_by_itself(name: str) -> None:
    text, words = CUT[name]
    assert all(any(word.startswith(part) for word in words) for part in sought(text))
