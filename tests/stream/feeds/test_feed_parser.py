"""What a feed remembers: edits without a word for it, repeats, refused edits, and fragments of stories."""

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earlybird.schemas.raw import RawNews
from earlybird.stream.feeds import registry
from earlybird.stream.feeds.base import Refused, Result, Skipped
from earlybird.stream.feeds.fragments import LONGEST_WAIT_US, Assembler
from earlybird.stream.feeds.seen import FeedParser

NOW_US = 1_770_000_000_000_000


def article(headline: str = "Norvex lifts outlook", updated: str = "14:30:01", item_id: int = 1, **more: Any) -> bytes:
    """A frame of Alpaca's."""
    about = {"created_at": "2026-01-05T14:30:00Z", "updated_at": f"2026-01-05T{updated}Z", "content": "", "summary": ""}
    return json.dumps([{"T": "n", "id": item_id, "headline": headline, **about, **more}]).encode()


def results(parse: FeedParser, *values: bytes) -> list[Result]:
    return [parsed.result for value in values for parsed in parse(value, NOW_US)]


def actions(found: Sequence[Result]) -> list[str]:
    """What became of each: its action, or why there is none."""
    words = (each.reason if isinstance(each, Skipped) else getattr(each, "action", "bad") for each in found)
    return [str(word) for word in words]


def test_a_second_version_is_an_update_and_a_repeat_is_skipped() -> None:
    """The text alone tells them apart where the vendor says nothing."""
    first, edit, reworded = article(), article("Norvex cuts outlook", "14:41:00"), article("Norvex cuts it", "14:41:00")
    found = results(registry.feed_parser("alpaca"), first, first, edit, first, edit, reworded, article(item_id=2))
    # The first version again, after the edit, is older: it is passed on as it is, and the order of versions decides.
    assert actions(found) == ["create", "repeated", "update", "create", "repeated", "update", "create"]


def test_one_parser_does_not_know_what_another_saw() -> None:
    """The pure parser of the registry has no memory at all."""
    edit = article("Norvex cuts outlook", "14:41:00")
    assert actions(results(registry.feed_parser("alpaca"), edit)) == ["create"]
    parse = registry.parser("alpaca")
    assert actions([each.result for value in (article(), edit) for each in parse(value, NOW_US)]) == ["create"] * 2


def test_a_feed_without_updated_is_known_by_its_text() -> None:
    """RSS as most write it: the guid is the same, the text another."""
    document = "<rss><channel><item><title>{}</title><guid>https://harbour.example/1</guid></item></channel></rss>"
    first, edit = (document.format(title).encode() for title in ("Orbane cuts jobs", "Orbane cuts no jobs"))
    assert actions(results(registry.feed_parser("rss"), first, edit, first, first)) == [
        "create", "update", "update", "repeated",
    ]  # fmt: skip


def test_a_post_with_more_likes_is_no_edit() -> None:
    """A poll brings it again and again."""
    posts = (
        json.dumps({"id": "7", "text": "$NRVX beats", "public_metrics": {"like_count": n}}).encode() for n in (1, 2)
    )
    assert actions(results(registry.feed_parser("x"), *posts)) == ["create", "repeated"]


def test_a_refused_edit_takes_its_item_back() -> None:
    """A bad line is not published, so the text that it replaces would stand for ever."""
    parse = registry.feed_parser("alpaca")
    found = results(parse, article(), article(headline="", updated="14:41:00"), article("Norvex again", "14:42:00"))
    assert actions(found) == ["create", "bad", "delete", "create"]
    assert [each.item_key for each in found if isinstance(each, RawNews)] == ["alpaca:1"] * 3
    gone = found[2]
    assert isinstance(gone, RawNews) and gone.headline is None and gone.effective_revision == 1_767_624_060_000_000
    assert actions(results(parse, article(headline="", item_id=9))) == ["bad"]  # nothing of it is out


def test_a_refused_time_takes_its_item_back_as_well() -> None:
    """With what of the item can be read."""
    found = results(registry.feed_parser("alpaca"), article(), article("Norvex cuts outlook", "xx"))
    assert actions(found) == ["create", "bad", "delete"]


def test_a_deleted_item_is_forgotten() -> None:
    """It may come again, as a new one."""

    def message(action: str) -> bytes:
        content = {"id": 5, "title": "Calder recalls pumps", "created": "Mon, 05 Jan 2026 09:30:00 -0500"}
        return json.dumps({"kind": "news", "data": {"action": action, "id": 5, "content": content}}).encode()

    found = results(registry.feed_parser("benzinga"), *map(message, ("created", "deleted", "created", "updated")))
    assert actions(found) == ["create", "delete", "create", "repeated"]


def test_memory_is_bounded() -> None:
    """The item that was not seen for longest is forgotten, and its edit is then a new one."""
    parse = FeedParser(registry.parser("alpaca"), most=2)
    results(parse, article(item_id=1), article(item_id=2), article(item_id=1), article(item_id=3))
    edits = [article("edited", "14:41:00", number) for number in (1, 3, 2)]
    assert actions(results(parse, *edits)) == ["update", "update", "create"]


# --- fragments --------------------------------------------------------------------------------------------------------


def story(alt_id: str, body: str = "") -> bytes:
    fields = {"altId": alt_id, "headline": f"Norvex news of {alt_id}", "body": body, "takeSequence": 1}
    return gzip.compress(json.dumps(fields).encode(), mtime=0)


def messages(guid: str, content: bytes, pieces: int) -> list[dict[str, Any]]:
    """The update messages that bring this content."""
    length = -(-len(content) // pieces)
    return [
        {
            "Type": "Update",
            "Fields": {
                "MRN_TYPE": "STORY", "MRN_SRC": "HK1", "GUID": guid, "FRAG_NUM": number + 1,
                "TOT_SIZE": 0 if number else len(content),
                "FRAGMENT": base64.b64encode(content[number * length : (number + 1) * length]).decode(),
            },
        }
        for number in range(pieces)
    ]  # fmt: skip


def frame(*found: dict[str, Any]) -> bytes:
    return json.dumps(list(found)).encode()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.randoms(use_true_random=False), st.integers(1, 4))
def test_stories_are_whole_however_their_fragments_are_mixed(pieces: list[int], chance: Any, width: int) -> None:
    """Each story's own are in order; several messages may share a frame."""
    queues = [messages(f"g{number}", story(f"n{number}"), count) for number, count in enumerate(pieces)]
    mixed: list[dict[str, Any]] = []
    while any(queues):
        mixed.append(chance.choice([queue for queue in queues if queue]).pop(0))
    parse = FeedParser(Assembler())
    found = results(parse, *(frame(*mixed[at : at + width]) for at in range(0, len(mixed), width)))
    assert sorted(each.item_key for each in found if isinstance(each, RawNews)) == [
        f"mrn:n{number}" for number in range(len(pieces))
    ]
    assert actions(found).count("fragment") == sum(pieces) - len(pieces) and parse.held == 0 and not parse.rest()


def test_a_feed_may_resume_where_nothing_is_held() -> None:
    """Between a story's first fragment and its last it may not."""
    parse, parts = registry.feed_parser("mrn"), messages("g", story("n1"), 3)
    held = []
    for part in parts:
        results(parse, frame(part))
        held.append(parse.held)
    assert held == [1, 2, 0]


def test_what_is_never_completed_is_refused() -> None:
    """After a minute, or at the feed's end; its late fragments are refused too, and others are unharmed."""
    parse, (first, second) = registry.feed_parser("mrn"), messages("late", story("n1"), 2)
    assert actions(results(parse, frame(first))) == ["fragment"]
    later = NOW_US + LONGEST_WAIT_US + 1
    found = [each.result for each in parse(frame(*messages("g", story("n2"), 1)), later)]
    assert actions(found) == ["create", "bad"] and parse.held == 0
    assert isinstance(found[1], Refused) and "did not come" in found[1].detail
    found = [each.result for each in parse(frame(second), later)]
    assert actions(found) == ["bad"]
    results(parse, frame(messages("open", story("n3"), 2)[0]))
    (rest,) = parse.rest()
    assert isinstance(rest.result, Refused) and "the feed ended" in rest.result.detail and not parse.rest()


def test_a_gap_gives_the_story_up_and_a_repeat_does_not() -> None:
    """A fragment that comes again after a reconnect changes nothing; a missing one cannot be made up for."""
    first, second, third = messages("g", story("n1"), 3)
    found = results(registry.feed_parser("mrn"), frame(first), frame(first), frame(second), frame(second), frame(third))
    assert actions(found) == ["fragment", "repeated", "fragment", "repeated", "create"]
    found = results(registry.feed_parser("mrn"), frame(first), frame(third))
    assert actions(found) == ["fragment", "fragment", "bad"]


def test_fragments_take_no_more_room_than_allowed() -> None:
    """The oldest story makes room; one that can never fit is refused at once."""
    content = [story(f"n{number}", base64.b64encode(bytes(range(200)) * 8).decode()) for number in range(3)]
    parse = FeedParser(Assembler(largest_held=2 * len(content[0]) // 2))
    found = results(parse, *(frame(messages(f"g{number}", each, 2)[0]) for number, each in enumerate(content)))
    assert actions(found) == ["fragment", "fragment", "fragment", "bad"] and parse.held == 2
    assert actions(results(FeedParser(Assembler(10)), frame(messages("g", content[0], 2)[0]))) == ["bad"]


def test_whole_stories_pass_through_the_assembler() -> None:
    """A feed may bring stories, messages and keep-alive lines, whatever its bridge does."""
    parse = registry.feed_parser("mrn")
    plain = gzip.decompress(story("n1"))
    found = results(parse, plain, story("n2"), frame(*messages("g", story("n3"), 1), {"Type": "Ping"}), b"\n")
    assert actions(found) == ["create", "create", "create", "control", "keep_alive"]


@pytest.mark.parametrize("name", registry.names())
def test_a_feed_parser_takes_any_bytes(name: str) -> None:
    """As the pure one does."""
    assert all(
        isinstance(each, Refused | Skipped) for each in results(registry.feed_parser(name), b"", b"\xff", b"[1]", b"{}")
    )
