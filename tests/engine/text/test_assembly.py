"""Assembly rules: what of an item's parts reaches the model, in what order, and at what cost."""

import time
from collections.abc import Callable

import pytest

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import ConfigError
from earlybird.engine.text import markup, tokenizer
from earlybird.engine.text.assembly import Text, assembly
from earlybird.engine.text.encoder import TextEncoder
from earlybird.engine.text.profiles import NATURAL, NATURAL_2

PIECES = tokenizer.bundled(BUNDLED_FOLDER)
ENCODER = TextEncoder(NATURAL_2, assembly("parts-v2"), PIECES, max_tokens=80)
FORMER = TextEncoder(NATURAL, assembly("parts-v1"), PIECES, max_tokens=80)
IMAGE = "iVBORw0KGgo/+A9z" * 8_000  # 128 KB of base64


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (("Revenue change", "Revenue change -3%"), "Revenue change. -3%"),
        (("Revenue change", "Revenue change 3%"), "Revenue change. 3%"),
        (("Revenue change", "Revenue change +3%"), "Revenue change. +3%"),
        (("Revenue change", "Revenue change \u22123%"), "Revenue change. -3%"),
        (("Revenue change", "Revenue change \u20133%"), "Revenue change. -3%"),
        (("Revenue change", "Revenue change - 3%"), "Revenue change. - 3%"),
        (("Revenue change", "Revenue change: -$3 mln"), "Revenue change. -$3 mln"),
        (("Revenue change", "Revenue change (3%)"), "Revenue change. (3%)"),
        (("Net margin", "Net margin .5 pct"), "Net margin. .5 pct"),
        (("Revenue up 3", "Revenue up 3.5% in May"), "Revenue up 3. Revenue up 3.5% in May"),
        (("Sales rise 3", "Sales rise 3% in May"), "Sales rise 3. Sales rise 3% in May"),
        (("Covid", "Covid-19 cases rise"), "Covid. Covid-19 cases rise"),
        (("Acme", "Acme's profit fell"), "Acme. Acme's profit fell"),
        (("Booking", "Booking.com falls"), "Booking. Booking.com falls"),
        (("Acme cuts outlook", "Acme cuts outlook. 3 plants close"), "Acme cuts outlook. 3 plants close"),
        (("Acme cuts outlook", "Acme cuts outlook.Shares fell"), "Acme cuts outlook. Shares fell"),
        (("Acme cuts outlook", "Acme cuts outlook\u2014shares fell"), "Acme cuts outlook. shares fell"),
        (("Acme cuts outlook", "ACME CUTS OUTLOOK - Shares fell"), "Acme cuts outlook. Shares fell"),
        (("Acme cuts outlook", "", "Acme cuts outlook"), "Acme cuts outlook"),
    ],
)
def test_a_repeated_beginning_goes_and_no_sign_or_digit_with_it(parts: tuple[str, ...], whole: str) -> None:
    """A headline that is repeated says nothing new; -3% and 3% are different texts, with different token ids."""
    assert ENCODER.assemble(Text(parts))[0] == whole


def test_texts_that_differ_in_a_sign_are_no_duplicates() -> None:
    """The cache answers for equal token ids alone."""
    texts = [Text(("Revenue change", f"Revenue change {change}")) for change in ("-3%", "3%", "+3%", ".3%", "\u22123%")]
    fell, flat, rose, little, minus = (encoded and encoded.token_ids for encoded in ENCODER.encode(texts))
    assert len({fell, flat, rose, little}) == 4 and fell == minus


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (
            "<p>Profit <b>rose</b>er&nbsp;5 &lt; 6<br>x</p><script>if(a<b)</script><!-- no --> y",
            "Profit roseer 5 < 6 x y",
        ),
        ("&lt;p&gt;Profit rose&lt;/p&gt;", "Profit rose"),
        ("&amp;lt;p&amp;gt;Profit rose&amp;lt;/p&amp;gt;", "Profit rose"),
        ("<![CDATA[<p>Profit rose</p>]]>", "Profit rose"),
        ('<p title="a > b">Profit rose</p>', "Profit rose"),
        ("<!DOCTYPE html><html><head><style>p{}</style></head><body>Profit rose</body></html>", "Profit rose"),
        ("<table><tr><td>Sales</td><td>-14&nbsp;%</td></tr></table>", "Sales -14 %"),
        (f'<img src="data:image/png;base64,{IMAGE}">Profit rose', "Profit rose"),
        (f"<script>{'if (a < b) { x(); } ' * 6_000}</script><p>Profit rose</p>", "Profit rose"),
        (f"data:image/png;base64,{IMAGE} Profit rose", "Profit rose"),
        ("\n".join(["iVBORw0KGgo/+A9z" * 4] * 500) + "\nProfit rose", "Profit rose"),
        ("Margin <5%> of sales, a <b and c", "Margin <5%> of sales, a <b and c"),
        ("Profit rose, x < y > z &lt;5%", "Profit rose, x < y > z <5%"),
    ],
)
def test_markup_and_embedded_data_never_reach_the_model(body: str, whole: str, html: bool) -> None:
    """With a headline and without, declared and not, escaped and not, however large; and nothing else is taken off."""
    assert ENCODER.assemble(Text(("", body), html)) == (whole, False)
    assert ENCODER.assemble(Text(("Acme reports", body), html)) == (f"Acme reports. {whole}", False)


def test_parts_v1_still_reads_as_it_did() -> None:
    """Recorded signals were computed from these: every oddity of theirs stays."""
    said = [
        (("Revenue change", "Revenue change -3%"), False, "Revenue change. 3%"),
        (("Revenue up 3", "Revenue up 3.5%"), False, "Revenue up 3. 5%"),
        (("", "<p>Profit</p>"), True, "<p>Profit</p>"),
        (("Acme", "<p>Profit <b>rose</b>er</p>"), True, "Acme. Profit roseer"),
        (("Acme", "<![CDATA[x]]>&amp;lt;"), True, "Acme. &lt;"),
        (("Acme", "<img src='" + "A" * 40_000), True, ("Acme. <img src='" + "A" * 2_000)[:1280]),
    ]
    for parts, html, whole in said:
        assert FORMER.assemble(Text(parts, html))[0] == whole


def test_an_unknown_rule_is_refused() -> None:
    """The error names what there is."""
    with pytest.raises(ConfigError, match="parts-v1, parts-v2 required, was 'parts-v9'"):
        assembly("parts-v9")


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "<",
            "<!--",
            "<a ",
            "<![",
            "</",
            "<?",
            "<script>",
            "<a href='",
            "<![CDATA[",
            "&",
            '<a ="',
            "<a =\"'",
            "<p>",
            "x ",
        ),
        *("<script>a<b</scrip ", "<a x=y ", "<b ", "&lt;p", "&amp;", "A" * 63 + " ", "A" * 64 + "\n", "data:a;base64,"),
    ],
)
def test_hostile_parts_are_linear_work(unit: str) -> None:
    """Four times the text is about four times the work; quadratic work would be sixteen times."""

    def assembled(count: int) -> Callable[[], object]:
        text = Text(("Acme", unit * count), html=True)
        return lambda: ENCODER.assemble(text)

    count = 120_000 // len(unit)
    assert least_cpu_s(assembled(4 * count)) < 10 * max(least_cpu_s(assembled(count)), 2e-4)


def test_an_escaped_page_with_a_number_of_thousands_of_digits_is_read() -> None:
    """Python converts no more than 4,300 digits."""
    body = f"&lt;p&gt;Acme&lt;/p&gt; cuts &#{'9' * 5_000};"
    assert ENCODER.assemble(Text(("", body), html=True))[0].startswith("Acme cuts")


def test_a_page_of_tags_alone_is_given_up() -> None:
    """Whoever sends a million of them has nothing to say."""
    assert markup.read("<b></b>" * 30_000 + "text", 100) == ("", True)


def least_cpu_s(work: Callable[[], object]) -> float:
    """CPU time of the fastest of five calls."""
    found = []
    for _ in range(5):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)
